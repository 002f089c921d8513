"""Compare two models, or two ways to train one, on the same clips and noise: mean differences, wins, intervals.

Clips and training seeds are both drawn from something larger, so intervals resample both (Owen, "The pigeonhole
bootstrap", 2007). With three training seeds such an interval is rather too narrow. With one it is over clips alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ipa_core.evaluation.comparison import METRICS, ClipResult, Interval, Metric
from ipa_core.records import Record

SHOWN: Final = (
    *("ssim", "psnr", "ssim_hand", "psnr_hand", "hand_score", "confidence", "hands_found", "fingers"),
    *("sharpness_hand", "sharpness", "contrast", "saturation", "motion_hand", "motion"),
)
"""Metrics that are compared, in the order of tables."""
BY_NAME: Final = {metric.name: metric for metric in METRICS}
Gains = dict[tuple[str, int], float]
"""Gain of the second model over the first, by (clip, seed) of a video."""
Floats = NDArray[np.float64]


class Gain(Record):
    """Mean gain in one metric; positive is better, whatever the metric."""

    mean: float
    interval: Interval | None
    """95 %, over clips and training seeds; ``None`` with fewer than two clips."""


class Difference(Gain):
    """Difference between two arms, or an arm and the base."""

    win_rate: float
    """Share of the videos that beat their counterpart of the same clip, noise and training seed; ties count half."""
    win_rate_interval: Interval | None


def differences(
    pairs: Sequence[tuple[Sequence[ClipResult], Sequence[ClipResult]]], bootstrap: int = 2000
) -> dict[str, Difference]:
    """Return the difference in each metric that can be compared; see :func:`difference`."""
    found = {name: difference(BY_NAME[name], pairs, bootstrap) for name in SHOWN}
    return {name: one for name, one in found.items() if one is not None}


def difference(
    metric: Metric, pairs: Sequence[tuple[Sequence[ClipResult], Sequence[ClipResult]]], bootstrap: int
) -> Difference | None:
    """Return second minus first of each pair (one per training seed), in the metric's better direction. Return ``None``
    if no video of the two can be compared."""
    found = [gains(metric, first, second) for first, second in pairs]
    gain = mean_gain(found, bootstrap)
    if gain is None:
        return None
    wins = mean_gain([{video: (np.sign(value) + 1) / 2 for video, value in each.items()} for each in found], bootstrap)
    assert wins is not None
    return Difference(mean=gain.mean, interval=gain.interval, win_rate=wins.mean, win_rate_interval=wins.interval)


def gains(metric: Metric, first: Sequence[ClipResult], second: Sequence[ClipResult]) -> Gains:
    """Return the gains of the videos that both have."""
    before = {(result.clip_id, result.seed): metric.read(result) for result in first}
    sign = 1.0 if metric.higher_is_better else -1.0
    found: Gains = {}
    for result in second:
        video = (result.clip_id, result.seed)
        old, new = before.get(video), metric.read(result)
        if old is not None and new is not None:
            found[video] = sign * (new - old)
    return found


def mean_gain(found: Sequence[Gains], bootstrap: int) -> Gain | None:
    """Return the mean over all videos; ``found`` has the gains of each training seed. Return ``None`` without gains."""
    clips = {clip: position for position, clip in enumerate(sorted({clip for each in found for clip, _ in each}))}
    if not clips:
        return None
    sums, counts = np.zeros((len(found), len(clips))), np.zeros((len(found), len(clips)))
    for row, each in enumerate(found):
        for (clip, _), value in each.items():
            sums[row, clips[clip]] += value
            counts[row, clips[clip]] += 1
    resamples = _resamples(sums.shape, bootstrap) if len(clips) > 1 else None
    return Gain(mean=round(float(sums.sum() / counts.sum()), 6), interval=_interval(sums, counts, resamples))


@dataclass(frozen=True, eq=False)
class _Resamples:
    """Number of draws of each training seed ``[B, S]`` and each clip ``[B, C]`` in each of B resamples."""

    seeds: Floats
    clips: Floats


def _resamples(shape: tuple[int, ...], count: int) -> _Resamples:
    source = np.random.default_rng(0)
    seeds, clips = (source.multinomial(size, np.full(size, 1 / size), count).astype(float) for size in shape)
    return _Resamples(seeds, clips)


def _interval(sums: Floats, counts: Floats, drawn: _Resamples | None) -> Interval | None:
    if drawn is None:
        return None
    totals = np.einsum("bs,sc,bc->b", drawn.seeds, sums, drawn.clips)
    numbers = np.einsum("bs,sc,bc->b", drawn.seeds, counts, drawn.clips)
    low, high = np.quantile(totals[numbers > 0] / numbers[numbers > 0], [0.025, 0.975])
    return Interval(low=round(float(low), 6), high=round(float(high), 6))


def with_interval(value: float, interval: Interval | None, form: str) -> str:
    """Return ``+0.35 (+0.30 to +0.40)``, each number in the format ``form``."""
    return f"{value:{form}}" + ("" if interval is None else f" ({interval.low:{form}} to {interval.high:{form}})")


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are there, or ``None``."""
    there = [value for value in values if value is not None]
    return round(float(np.mean(there)), 6) if there else None
