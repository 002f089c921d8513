"""The nine stages, each a module with NAME, VERSION, PLACE, WAVES, compute() and nothing_left()."""

from __future__ import annotations

from typing import cast

from flows.engine.stage import Stage, StageName
from flows.stages import candidates, clips, evaluation, finetune, poses, references, scores, selection, shards

STAGES: tuple[Stage, ...] = tuple(
    cast(Stage, module)
    for module in (clips, poses, candidates, scores, selection, shards, references, finetune, evaluation)
)


def stage_named(name: StageName) -> Stage:
    return next(stage for stage in STAGES if name == stage.NAME)
