"""Learn from people's decisions which hand score is good enough: the share of candidates that people keep, by score.

The curve is isotonic: of all curves that never fall, the one with the least squared error (Barlow, Bartholomew, Bremner
and Brunk, "Statistical inference under order restrictions", 1972). Between scores that people judged it is a straight
line. It keeps the order of candidates, so selection takes only its threshold from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ipa_core.config import ConfigError, SelectionConfig
from ipa_core.records import Digest, Record

LEAST: Final = 40
"""Decisions that a calibration needs."""
_RESAMPLES: Final = 1000
Floats = NDArray[np.float64]


class Judged(Record):
    """A person's decision about a candidate, and the score it had."""

    video: Digest
    clip_id: str
    score: float
    kept: bool


class Point(Record):
    """The curve at one score. low, high: 95 %, clips resampled."""

    score: float
    kept: float
    low: float
    high: float


class Calibration(Record):
    """What people keep, by score. A file holds it as JSON."""

    version: Literal[1] = 1
    judge: Digest
    """Names what computed the scores (`flows.stages.scores.judge_of`). The curve holds for no other score."""
    run: str
    """The run whose candidates people judged."""
    judged: tuple[Judged, ...]
    curve: tuple[Point, ...]
    """By score, ascending."""
    threshold: float | None
    """The least score that people keep as often as not. ``None``: no score reaches that."""
    threshold_interval: tuple[float, float | None]
    """95 %, clips resampled; ``None``: that many resamples have no such score."""
    softness: float | None
    """Difference of the scores that people keep three times and once in four. Small: a sharp line. ``None``: the curve
    does not come that far."""

    def threshold_at(self, share: float) -> float | None:
        """Return the least judged score, between two of them on the line, that at least this share of people keeps."""
        return _crossing([one.score for one in self.curve], [one.kept for one in self.curve], share)

    def apply(self, config: SelectionConfig) -> SelectionConfig:
        """Return the config with the score's threshold in the place of the share. Raises :class:`ConfigError`."""
        threshold = self.threshold_at(config.threshold)
        if threshold is None:
            raise ConfigError(
                f"selection.calibration: people kept at most {self.curve[-1].kept:.0%} of the candidates of any score, "
                f"and selection.threshold wants {config.threshold:.0%}; lower it"
            )
        return config.model_copy(update={"threshold": threshold})

    @classmethod
    def read(cls, path: str) -> Self:
        """Raises :class:`ConfigError`."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            why = error.strerror or str(error)
        except ValidationError:
            why = "it holds no calibration of this version"
        raise ConfigError(
            f"selection.calibration: {path} can't be read: {why}; `ipa score calibrate RUN` writes such files"
        )

    def to_bytes(self) -> bytes:
        return json.dumps(self.model_dump(mode="json"), indent=1).encode()


def calibrate(judged: Sequence[Judged], judge: Digest, run: str) -> Calibration:
    """Fit the curve. Raises :class:`ConfigError` with too few decisions, or with decisions of one kind only."""
    ordered = sorted(judged, key=lambda one: (one.score, one.video))
    kept = sum(one.kept for one in ordered)
    if len(ordered) < LEAST or kept in (0, len(ordered)):
        raise ConfigError(
            f"run {run} has {kept} accepted and {len(ordered) - kept} rejected candidates with a score; a calibration "
            f"needs at least {LEAST}, some of each kind: `ipa review {run}` shows the page"
        )
    scores, values = _isotonic(ordered)
    low, high, crossings = _bootstrap(ordered, scores)
    points = zip(scores, values, low, high, strict=True)
    curve = tuple(Point(score=one, kept=two, low=three, high=four) for one, two, three, four in points)
    ends = np.quantile(crossings, [0.025, 0.975], method="nearest")
    quarter, three = (_crossing(scores, values, share) for share in (0.25, 0.75))
    return Calibration(
        judge=judge,
        run=run,
        judged=tuple(ordered),
        curve=curve,
        threshold=_crossing(scores, values, 0.5),
        threshold_interval=(float(ends[0]), float(ends[1]) if np.isfinite(ends[1]) else None),
        softness=None if quarter is None or three is None or values[0] > 0.25 else round(three - quarter, 5),
    )


def _isotonic(judged: Sequence[Judged]) -> tuple[list[float], list[float]]:
    """Return the ends of the curve's steps: scores, and the share that is kept."""
    from scipy.optimize import isotonic_regression  # It takes a second to import.

    scores, place = np.unique([one.score for one in judged], return_inverse=True)
    counts = np.bincount(place)
    shares = np.bincount(place, weights=[one.kept for one in judged]) / counts
    fitted: Floats = isotonic_regression(shares, weights=counts).x.round(5)
    ends = np.ones(len(fitted), bool)
    ends[1:-1] = (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:])
    return scores[ends].tolist(), fitted[ends].tolist()


def _crossing(scores: Sequence[float], kept: Sequence[float], share: float) -> float | None:
    place = next((place for place, value in enumerate(kept) if value >= share), None)
    if not place:
        return None if place is None else scores[0]
    rise = (share - kept[place - 1]) / (kept[place] - kept[place - 1])
    return round(scores[place - 1] + rise * (scores[place] - scores[place - 1]), 5)


def _bootstrap(judged: Sequence[Judged], scores: Sequence[float]) -> tuple[list[float], list[float], Floats]:
    """Resample the clips. The crossing's 95 % interval covers the truth in 92 to 95 % of simulated reviews (64 to 400
    decisions on 16 to 25 clips). Return the ends of the curve's interval at the scores, and each curve's crossing of
    one half (infinite where it has none)."""
    clips: dict[str, list[Judged]] = {}
    for one in judged:
        clips.setdefault(one.clip_id, []).append(one)
    groups, random = list(clips.values()), np.random.default_rng(0)
    curves, crossings = np.empty((_RESAMPLES, len(scores))), np.empty(_RESAMPLES)
    for number in range(_RESAMPLES):
        drawn: list[Any] = [one for group in random.integers(len(groups), size=len(groups)) for one in groups[group]]
        at, kept = _isotonic(drawn)
        curves[number] = np.interp(scores, at, kept)
        found = _crossing(at, kept, 0.5)
        crossings[number] = np.inf if found is None else found
    low, high = np.quantile(curves, [0.025, 0.975], axis=0).round(5)
    return low.tolist(), high.tolist(), crossings
