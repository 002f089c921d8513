"""How much early rejection costs and saves: replay it on candidates that were all finished and previewed on the way.

The candidates that go on are the same in a full generation, so one full generation answers for all settings. "Kept" is
a sample that would enter the training: at most `per_clip` finished candidates of a clip that reach a threshold.
Intervals are 95 %, from clips drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import floor
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ipa_core.config import EarlyConfig
from ipa_core.generation.early import reasons

Floats = NDArray[np.float64]
STRICT: Final = 0.9
"""The strict threshold is this quantile of all finished scores: one candidate in ten reaches it."""
_RESAMPLES: Final = 2000


@dataclass(frozen=True, eq=False)
class Scores:
    """The hand scores of one clip's K candidates. final: ``[K]``. previews: ``[K]`` by noise level t. An unscorable one
    counts as 0."""

    final: Floats
    previews: Mapping[float, Floats]


class Sampling(Protocol):
    """The part of a ``CandidatesConfig`` that says what a step costs."""

    @property
    def noise_levels(self) -> Sequence[float]:
        """t of each step."""

    @property
    def passes(self) -> Sequence[int]:
        """Passes of the model in each step."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; the interval is None with fewer than two clips."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Bar:
    """What counts as kept. strict: see :data:`STRICT`."""

    threshold: float
    strict: float
    per_clip: int

    def kept(self, final: Floats) -> Floats:
        """Return how many of these finished candidates of a clip are kept, by ``threshold`` and by ``strict``."""
        reached = [(final >= bound).sum() for bound in (self.threshold, self.strict)]
        return np.minimum(reached, self.per_clip).astype(float)


@dataclass(frozen=True)
class Result:
    """What a way to generate gives. best: mean of each clip's best score. kept, strict: samples per clip. Each is
    ``[clips]``. cost: steps as a share of those of the full generation, over all clips."""

    cost: float
    best: Floats
    kept: Floats
    strict: Floats


def bar_of(clips: Sequence[Scores], threshold: float, per_clip: int) -> Bar:
    finished = np.concatenate([clip.final for clip in clips])
    return Bar(threshold, float(np.quantile(finished, STRICT)), per_clip)


def rank_correlation(clips: Sequence[Scores], t: float) -> Estimate | None:
    """Return Spearman's correlation of preview and final score within a clip, mean over clips in which both vary."""
    from scipy.stats import spearmanr  # It takes a second to import.

    pairs = [(clip.previews[t], clip.final) for clip in clips]
    found = [spearmanr(first, second).statistic for first, second in pairs if np.ptp(first) and np.ptp(second)]
    return ratio(np.array(found), np.ones(len(found))) if found else None


def ratio(numbers: Floats, whole: Floats) -> Estimate:
    """Return the sum of ``numbers [clips]`` over that of ``whole``; with ones, the mean. NaN without a whole."""
    value = float(numbers.sum() / whole.sum()) if whole.sum() else float("nan")
    if len(numbers) < 2 or not whole.sum():
        return Estimate(value, None, None)
    drawn = np.random.default_rng(0).multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), _RESAMPLES)
    sums = drawn @ whole
    low, high = np.quantile((drawn @ numbers)[sums > 0] / sums[sums > 0], [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def full(clips: Sequence[Scores], bar: Bar) -> Result:
    """Return what all candidates give."""
    return _result([(list(clip.final), 1.0) for clip in clips], bar)


def replayed(clips: Sequence[Scores], bar: Bar, rule: EarlyConfig, sampling: Sampling) -> Result:
    """Return what early rejection gives to candidates that were sampled so."""
    return _result([_replay(clip, rule, sampling) for clip in clips], bar)


def screened(clips: Sequence[Scores], screen: Sequence[Scores], bar: Bar, keep: float, cost: float) -> Result:
    """Return what a first pass gives whose final scores say which candidates are generated in full: a share ``keep``.
    ``cost``: of the first pass, as a share of a full generation."""
    found = []
    for clip, first in zip(clips, screen, strict=True):
        why = reasons(0.0, list(first.final), EarlyConfig(at=(0.5,), keep=keep))
        chosen = [score for score, reason in zip(clip.final, why, strict=True) if reason is None]
        found.append((chosen, cost + len(chosen) / len(why)))
    return _result(found, bar)


def fewer(clips: Sequence[Scores], bar: Bar, cost: float) -> Result:
    """Return what a full generation of fewer candidates gives at this cost, on average over all choices of them."""
    rows = []
    for clip in clips:
        count = min(cost, 1.0) * len(clip.final)
        below, part = floor(count), count - floor(count)
        row = (1 - part) * _of_some(clip.final, below, bar)
        rows.append(row + part * _of_some(clip.final, below + 1, bar) if part else row)
    best, kept, strict = np.array(rows).T
    return Result(cost, best, kept, strict)


def _of_some(final: Floats, count: int, bar: Bar) -> Floats:
    if not count:
        return np.zeros(3)
    chosen = [final[list(places)] for places in combinations(range(len(final)), count)]
    return np.mean([[some.max(), *bar.kept(some)] for some in chosen], axis=0)


def _replay(clip: Scores, rule: EarlyConfig, sampling: Sampling) -> tuple[list[float], float]:
    """Return the finished candidates' scores, and the cost."""
    levels, passes = sampling.noise_levels, sampling.passes
    under_way, paid, begun = list(range(len(clip.final))), 0, 0
    for level in rule.at:
        t = max(found for found in clip.previews if found <= level)
        step = 1 + int(np.argmin(np.abs(np.array(levels) - t)))
        paid, begun = paid + len(under_way) * sum(passes[begun:step]), step
        why = reasons(t, [float(clip.previews[t][place]) for place in under_way], rule)
        under_way = [place for place, reason in zip(under_way, why, strict=True) if reason is None]
    paid += len(under_way) * sum(passes[begun:])
    return [float(clip.final[place]) for place in under_way], paid / (len(clip.final) * sum(passes))


def _result(finished: Sequence[tuple[Sequence[float], float]], bar: Bar) -> Result:
    kept = np.array([bar.kept(np.array(scores)) for scores, _ in finished])
    best = np.array([max(scores, default=0.0) for scores, _ in finished])
    return Result(float(np.mean([cost for _, cost in finished])), best, kept[:, 0], kept[:, 1])
