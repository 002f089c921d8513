"""The stages of a run, in their order. This is the only list of them."""

from __future__ import annotations

from typing import Any

from flows.engine.stage import Stage
from flows.stages.candidates import Candidates
from flows.stages.clips import Clips
from flows.stages.evaluation import Evaluation
from flows.stages.finetune import Finetune
from flows.stages.poses import Poses
from flows.stages.references import References
from flows.stages.scores import Scores
from flows.stages.selection import Selection
from flows.stages.shards import Shards

STAGES: tuple[Stage[Any], ...] = (
    Clips(),  # driving videos -> windows around the person
    Poses(),  # -> keypoints
    Candidates(),  # -> K generated videos of each training clip
    Scores(),  # -> how good their hands are
    Selection(),  # -> the kept candidates, and the reasons against the others
    Shards(),  # -> training samples in WebDataset tars
    References(),  # -> errors of the frozen model, ahead of the training
    Finetune(),  # -> the LoRA
    Evaluation(),  # -> base, aligned model and champion on held-out clips
)
STAGE_NAMES: tuple[str, ...] = tuple(stage.name for stage in STAGES)
