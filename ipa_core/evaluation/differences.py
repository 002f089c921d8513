"""Compare two models, or two ways to train one, on the same clips and noise: mean differences, wins, intervals.

Clips and training seeds are both drawn from something larger. The interval of a mean adds the variance of the seeds'
means to that of the clips' means, and takes Student's t with Satterthwaite's degrees of freedom (Cameron, Gelbach and
Miller, "Robust inference with multiway clustering", 2011, without their third term, so a little too wide). A bootstrap
over three seeds would cover the truth in three of four cases. One seed says nothing about seeds: no interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ipa_core.evaluation.comparison import METRICS, SECOND_JUDGE, ClipResult, Interval, Metric
from ipa_core.records import Record

SHOWN: Final = (
    *("ssim", "psnr", "ssim_hand", "psnr_hand", "hand_score", "confidence", "hands_found", "fingers"),
    *("sharpness_hand", "sharpness", "contrast", "saturation", "motion_hand", "motion", "second_judge"),
)
"""Metrics that are compared, in the order of tables."""
BY_NAME: Final = {metric.name: metric for metric in (*METRICS, SECOND_JUDGE)}
Gains = dict[tuple[str, int], float]
"""Gain of the second model over the first, by (clip, seed) of a video."""
Floats = NDArray[np.float64]


class Gain(Record):
    """Mean gain in one metric; positive is better, whatever the metric."""

    mean: float
    interval: Interval | None
    """95 %, over clips and training seeds; ``None`` with one seed or fewer than two clips."""
    one_seed: bool = False
    """The reason for no interval: an arm was trained with one seed."""


class Difference(Gain):
    """Difference between two arms, or an arm and the base."""

    win_rate: float
    """Share of the videos that beat their counterpart of the same clip, noise and training seed; ties count half."""
    win_rate_interval: Interval | None


def differences(
    pairs: Sequence[tuple[Sequence[ClipResult], Sequence[ClipResult]]], *, over_seeds: bool = True
) -> dict[str, Difference]:
    """Return the difference in each metric that can be compared; see :func:`difference`."""
    found = {name: difference(BY_NAME[name], pairs, over_seeds=over_seeds) for name in SHOWN}
    return {name: one for name, one in found.items() if one is not None}


def difference(
    metric: Metric, pairs: Sequence[tuple[Sequence[ClipResult], Sequence[ClipResult]]], *, over_seeds: bool = True
) -> Difference | None:
    """Return second minus first of each pair (one per training seed), in the metric's better direction. Return ``None``
    if no video of the two can be compared. Without ``over_seeds`` the pairs are the models themselves, not examples of
    a way to train, and the interval is over clips alone."""
    found = [gains(metric, first, second) for first, second in pairs]
    gain = mean_gain(found, over_seeds=over_seeds)
    if gain is None:
        return None
    won = [{video: (np.sign(value) + 1) / 2 for video, value in each.items()} for each in found]
    wins = mean_gain(won, over_seeds=over_seeds)
    assert wins is not None
    bounds = wins.interval
    if bounds is not None:
        bounds = Interval(low=max(0.0, bounds.low), high=min(1.0, bounds.high))
    return Difference(
        mean=gain.mean, interval=gain.interval, one_seed=gain.one_seed, win_rate=wins.mean, win_rate_interval=bounds
    )


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


def mean_gain(found: Sequence[Gains], *, over_seeds: bool = True) -> Gain | None:
    """Return the mean over all videos; ``found`` has the gains of each training seed. Return ``None`` without gains."""
    clips = {clip: position for position, clip in enumerate(sorted({clip for each in found for clip, _ in each}))}
    if not clips:
        return None
    sums, counts = np.zeros((len(found), len(clips))), np.zeros((len(found), len(clips)))
    for row, each in enumerate(found):
        for (clip, _), value in each.items():
            sums[row, clips[clip]] += value
            counts[row, clips[clip]] += 1
    one_seed = over_seeds and len(found) == 1
    middle = float(sums.sum() / counts.sum())
    parts = [_variance(sums, counts, axis=0), *([_variance(sums, counts, axis=1)] if over_seeds else [])]
    interval = None if one_seed or len(clips) < 2 else _interval(middle, parts)
    return Gain(mean=round(middle, 6), interval=interval, one_seed=one_seed)


def _variance(sums: Floats, counts: Floats, axis: int) -> tuple[float, int]:
    """Return the variance of the grand mean by the spread of the means over the other axis, and its degrees of
    freedom."""
    means = (sums.sum(axis) / np.maximum(counts.sum(axis), 1))[counts.sum(axis) > 0]
    freedom = len(means) - 1
    return (float(means.var(ddof=1)) / len(means) if freedom else 0.0), freedom


def _interval(middle: float, parts: Sequence[tuple[float, int]]) -> Interval:
    from scipy.stats import t  # It takes a second to import.

    variance = sum(part for part, _ in parts)
    spread = sum(part**2 / freedom for part, freedom in parts if freedom)
    half = float(t.ppf(0.975, variance**2 / spread)) * variance**0.5 if spread else 0.0
    return Interval(low=round(middle - half, 6), high=round(middle + half, 6))


def with_interval(value: float, interval: Interval | None, form: str, *, one_seed: bool = False) -> str:
    """Return ``+0.35 (+0.30 to +0.40)``, each number in the format ``form``, or ``+0.35 (one seed)``."""
    bounds = "" if interval is None else f" ({interval.low:{form}} to {interval.high:{form}})"
    return f"{value:{form}}{' (one seed)' if one_seed else bounds}"


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are there, or ``None``."""
    there = [value for value in values if value is not None]
    return round(float(np.mean(there)), 6) if there else None
