"""Early rejection (`candidates.early`): stop candidates whose previews are worse than those of their clip's others.

A preview is the clean latents that the velocity at a step predicts, z - t v, decoded. The step needs this velocity
anyway, so a preview costs its decoding and its score. The noise level t says how much of the picture is settled; the
number of the step does not: with shift 16, t is .94 after half of the steps, with shift 3 it is .75.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from ipa_core.config import EarlyConfig
from ipa_core.records import EarlyPreview

if TYPE_CHECKING:
    from torch import Tensor

    from ipa_core.models.animation import AnimationModel

Judge = Callable[[np.ndarray], float | None]
"""Return the score of a video uint8 ``[T, H, W, 3]``, higher is better; None if it can't be scored."""
STOPPED: Final = "stopped at t"
GIVEN_UP: Final = "given up at t"
"""Begin the reasons why a candidate, or a whole clip, was not finished."""


class EarlyRejection:
    """A :data:`~ipa_core.generation.sampler.Sieve` that remembers all previews."""

    def __init__(self, model: AnimationModel, config: EarlyConfig, judge: Judge) -> None:
        self._model, self._config, self._judge = model, config, judge
        self.previews: list[EarlyPreview] = []

    def __call__(self, t: float, seeds: Sequence[int], clean: Tensor) -> list[int]:
        scores = [self._judge(video) for video in self._model.decode(clean)]
        why = reasons(t, scores, self._config)
        self.previews += [
            EarlyPreview(seed=seed, t=round(t, 4), score=score, stopped=reason)
            for seed, score, reason in zip(seeds, scores, why, strict=True)
        ]
        return [seed for seed, reason in zip(seeds, why, strict=True) if reason is None]


def reasons(t: float, scores: Sequence[float | None], config: EarlyConfig) -> list[str | None]:
    """Return for each preview why its candidate is stopped, or None if it goes on. The first of equals comes first."""
    best = max((score for score in scores if score is not None), default=None)
    if config.least and (best is None or best < config.least):
        told = f"the best of {len(scores)} previews scores {_text(best)}, candidates.early.least is {config.least:g}"
        return [f"{GIVEN_UP} = {t:.2f}: {told}"] * len(scores)
    go_on = config.kept(len(scores))
    in_turn = sorted(range(len(scores)), key=lambda place: _value(scores[place]), reverse=True)
    found: list[str | None] = [None] * len(scores)
    for rank, place in enumerate(in_turn[go_on:], start=go_on + 1):
        found[place] = (
            f"{STOPPED} = {t:.2f}: the preview scores {_text(scores[place])}, number {rank} of {len(scores)}, "
            f"and {go_on} go on"
        )
    return found


def _value(score: float | None) -> float:
    return -1.0 if score is None else score


def _text(score: float | None) -> str:
    return "nothing" if score is None else f"{score:.3f}"
