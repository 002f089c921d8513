"""How often people prefer the videos of the aligned model, of two they saw without knowing which is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ipa_core.evaluation.comparison import Interval, clip_bootstrap
from ipa_core.records import Record


@dataclass(frozen=True)
class Judgement:
    """What one person prefers of one pair of videos. won: 1 the aligned model's, 0 the other, 0.5 no difference.
    on_the_left: the person prefers the left one; None: no difference."""

    clip_id: str
    by: str
    won: float
    on_the_left: bool | None


class Preferred(Record):
    """The judgements of one person, or of all."""

    by: str
    judgements: int
    clips: int
    aligned: int
    base: int
    same: int
    """Judgements that see no difference. They count half in the win rate."""
    left: int
    """Judgements that prefer the left video. Sides are drawn, so far from half is a habit."""
    win_rate: float
    interval: Interval | None
    """95 %, see :func:`_interval`; ``None`` with fewer than two clips."""

    @property
    def sentence(self) -> str:
        rate = f"{self.win_rate:.1%}"
        if self.interval is not None:
            rate += f" (95 % interval {self.interval.low:.1%} to {self.interval.high:.1%})"
        return (
            f"{self.by} preferred the aligned model in {rate} of {self.judgements} blind comparisons of {self.clips} "
            f"held-out clips: {self.aligned} for it, {self.base} for base, {self.same} without a difference, which "
            f"count half; {self.left} of {self.aligned + self.base} chose the left video"
        )


EVERYBODY = "people"
_RESAMPLES = 10_000


def preferred(judgements: Sequence[Judgement]) -> tuple[Preferred, ...]:
    """Sum up all judgements, and if there are several people those of each, by name. () without a judgement."""
    if not judgements:
        return ()
    people = sorted({one.by for one in judgements})
    if len(people) == 1:
        return (_summed(people[0], judgements),)
    each = (_summed(name, [one for one in judgements if one.by == name]) for name in people)
    return (_summed(EVERYBODY, judgements), *each)


def _summed(by: str, judgements: Sequence[Judgement]) -> Preferred:
    # Sorted, so that the interval does not follow the order in which people spoke.
    ordered = sorted(judgements, key=lambda one: (one.clip_id, one.by, one.won))
    won = np.array([one.won for one in ordered])
    clips = np.array([one.clip_id for one in ordered])
    return Preferred(
        by=by,
        judgements=len(ordered),
        clips=len(set(clips)),
        aligned=int((won == 1).sum()),
        base=int((won == 0).sum()),
        same=int((won == 0.5).sum()),
        left=sum(one.on_the_left is True for one in ordered),
        win_rate=round(float(won.mean()), 6),
        interval=_interval(won, clips),
    )


def _interval(won: NDArray[np.float64], clips: NDArray[np.str_]) -> Interval | None:
    """Resample the clips. Where all judgements are alike that has no width, so the exact interval of as many trials as
    there are clips stands there (Clopper and Pearson, 1934)."""
    count = len(set(clips))
    if count < 2:
        return None
    bound = round(0.025 ** (1 / count), 6)
    if (won == 1).all():
        return Interval(low=bound, high=1.0)
    if (won == 0).all():
        return Interval(low=0.0, high=round(1 - bound, 6))
    return clip_bootstrap(won, clips, _RESAMPLES, seed=0)
