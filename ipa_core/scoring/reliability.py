"""Find out whether a measure can tell candidates of one clip apart.

Preference can only teach differences between such candidates, and a measure can only select by differences that it
finds twice. Both depend on model, conditioning and measure together, so they are measured on a run's candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A measure on one candidate. whole: over all frames; even, odd: over every second frame; choice: the number that
    chooses a clip's best. ``None``: nothing measured."""

    clip: str
    whole: float | None
    even: float | None
    odd: float | None
    choice: float | None = None


@dataclass(frozen=True)
class Reliability:
    """Reliability of one measure over the candidates of several clips. None: too few candidates, or no spread.

    within_share: share of the variance that lies between candidates of one clip, in [0, 1] (one-way random effects).
    split_half: correlation of even with odd frames, both as differences from their clip's mean, stepped up to the whole
    length (Spearman, Brown, 1910), in [-1, 1]; interval: the interval of split_half.

    In the measure's unit: spread is the standard deviation within clips. gain is the lead of each clip's best candidate
    by ``choice`` over the mean of its clip: a model that learns to make just such candidates gains as much by choosing.
    most is the lead of the best candidate by the measure itself, which no choice can exceed. Intervals are 95 %, from
    clips drawn again.
    """

    candidates: int
    clips: int
    mean: float | None
    within_share: float | None
    split_half: float | None
    interval: tuple[float, float] | None
    spread: float | None
    gain: float | None
    gain_interval: tuple[float, float] | None
    most: float | None


def reliability(measured: Sequence[Measured], resamples: int = 2000) -> Reliability:
    """Leave out clips with fewer than two candidates: they tell nothing."""
    whole: dict[str, list[float]] = {}
    choosable: dict[str, list[tuple[float, float]]] = {}
    pairs: dict[str, list[tuple[float, float]]] = {}
    for one in measured:
        if one.whole is not None:
            whole.setdefault(one.clip, []).append(one.whole)
            if one.choice is not None:
                choosable.setdefault(one.clip, []).append((one.choice, one.whole))
        if one.even is not None and one.odd is not None:
            pairs.setdefault(one.clip, []).append((one.even, one.odd))
    centred = [np.array(values) - np.mean(values, axis=0) for values in pairs.values() if len(values) > 1]
    groups = [np.array(values) for values in whole.values() if len(values) > 1]
    gains = np.array([_lead_of_chosen(np.array(values)) for values in choosable.values() if len(values) > 1])
    return Reliability(
        candidates=sum(len(values) for values in groups),
        clips=len(groups),
        mean=round(float(np.mean(np.concatenate(groups))), 6) if groups else None,
        within_share=_within_share(groups),
        split_half=_split_half(centred),
        interval=_interval(centred, resamples),
        spread=round(_within_variance(groups) ** 0.5, 6) if groups else None,
        gain=round(float(gains.mean()), 6) if len(gains) else None,
        gain_interval=_interval_of_mean(gains, resamples),
        most=round(float(np.mean([values.max() - values.mean() for values in groups])), 6) if groups else None,
    )


def _lead_of_chosen(candidates: Floats) -> float:
    """Take ``[K, 2]``, choice and value. Of several best candidates with an equal choice, the mean counts."""
    choice, value = candidates.T
    return float(value[choice == choice.max()].mean() - value.mean())


def _interval_of_mean(values: Floats, resamples: int) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    drawn = np.random.default_rng(0).choice(values, (resamples, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return round(float(low), 6), round(float(high), 6)


def _within_variance(groups: Sequence[Floats]) -> float:
    """Return the variance within sets of two or more values, by the degrees of freedom."""
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in groups)
    return squares / sum(len(values) - 1 for values in groups)


def _within_share(groups: Sequence[Floats]) -> float | None:
    """Return sigma_w^2 / (sigma_w^2 + sigma_b^2) by the method of moments; a negative sigma_b^2 counts as 0."""
    count = sum(len(values) for values in groups)
    if len(groups) < 2:
        return None
    means = np.array([values.mean() for values in groups])
    sizes = np.array([len(values) for values in groups], float)
    grand = float(sizes @ means / count)
    within = _within_variance(groups)
    between = float(sizes @ (means - grand) ** 2) / (len(groups) - 1)
    typical = (count - float(sizes @ sizes) / count) / (len(groups) - 1)
    total = within + max(0.0, (between - within) / typical)
    return round(within / total, 6) if total > 0 else None


def _split_half(centred: Sequence[Floats]) -> float | None:
    if not centred:
        return None
    even, odd = np.concatenate(centred).T
    lengths = float(np.sqrt((even @ even) * (odd @ odd)))
    if lengths == 0:
        return None
    return round(_stepped_up(float(even @ odd) / lengths), 6)


def _stepped_up(correlation: float) -> float:
    """Apply Spearman-Brown for twice the length. A negative correlation stays: it says that nothing is measured."""
    return 2 * correlation / (1 + correlation) if correlation > 0 else correlation


def _interval(centred: Sequence[Floats], resamples: int) -> tuple[float, float] | None:
    if len(centred) < 2 or _split_half(centred) is None:
        return None
    # Keep sums of squares and products by clip, because a resample only adds them.
    sums = np.array([[c[:, 0] @ c[:, 0], c[:, 1] @ c[:, 1], c[:, 0] @ c[:, 1]] for c in centred])
    drawn = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), resamples) @ sums
    usable = drawn[(drawn[:, 0] > 0) & (drawn[:, 1] > 0)]
    found = [_stepped_up(float(product / np.sqrt(one * other))) for one, other, product in usable]
    low, high = np.quantile(found, [0.025, 0.975])
    return round(float(low), 6), round(float(high), 6)
