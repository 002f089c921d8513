"""How far a run has come, and how long it will still take.

Work is counted in seconds of the forecast that is made before the run's first computation. These weights stay, so the
share of the run only grows. The time left follows the measured speed, and the forecast while little is measured.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

TRUST: Final = 0.1
"""A forecast counts as much as this share of the work, watched."""
SURPRISE: Final = 0.05
"""A stage with more work than forecast is worth a sentence from this share of the run's time up."""


@dataclass(frozen=True)
class Expected:
    """The forecast of one stage. work: in usual items (`Stage.work`). seconds: None if nothing is known."""

    work: float
    seconds: float | None


@dataclass
class UnderWay:
    """A stage under way. Its items weigh by their work (`Stage.work`)."""

    stage: str
    began: float = field(default_factory=time.monotonic)
    works: dict[str, float] = field(default_factory=dict)
    """The work of each item to compute, by key."""
    done: set[str] = field(default_factory=set)
    """Keys of items with an outcome."""
    parts: dict[str, float] = field(default_factory=dict)
    """Share of each item under way. An item that begins again counts once it comes further than before."""
    first: tuple[float, float] | None = None
    """Time and share at the first report of work."""
    _done_work: float = 0.0

    def add(self, works: Mapping[str, float]) -> None:
        if not self.works:
            self.began = time.monotonic()
        self.works.update(works)

    def part(self, key: str, share: float) -> None:
        if key not in self.done:
            self.parts[key] = max(share, self.parts.get(key, 0.0))
            self._heard()

    def end(self, key: str) -> None:
        self.parts.pop(key, None)
        self.done.add(key)
        self._done_work += self.works.get(key, 0.0)
        self._heard()

    def _heard(self) -> None:
        if self.first is None and self.share > 0:
            self.first = time.monotonic(), self.share

    @property
    def work(self) -> float:
        return sum(self.works.values())

    @property
    def share(self) -> float:
        """Share of the work that is done, in [0, 1]."""
        whole = self.work
        if not whole:  # Items without work, such as a comparison, count by their number when they are alone.
            return len(self.done) / len(self.works) if self.works else 1.0
        under_way = sum(self.works.get(key, 0.0) * share for key, share in self.parts.items())
        return min(1.0, (self._done_work + under_way) / whole)

    def seconds_left(self, forecast: float | None) -> float | None:
        """Estimate by the speed since the first report: before it, models were loaded, and an earlier run may have done
        a part. ``forecast``: seconds of the whole stage. None when nothing is known."""
        share = self.share
        moment, known = self.first or (time.monotonic(), share)
        watched, gained = time.monotonic() - moment, share - known
        if forecast is not None:
            return (1 - share) * (TRUST * forecast + watched) / (TRUST + gained)
        # A batch may report all its items at once, so some time must pass first.
        if gained <= 0 or watched < (moment - self.began) / 4:
            return None
        return (1 - share) * watched / gained


class Course:
    """The stages of a run with their forecasts, in their order."""

    def __init__(self, expected: Mapping[str, Expected]) -> None:
        self._expected = expected
        self._seconds = {name: one.seconds or 0.0 for name, one in expected.items()}
        self._whole = sum(self._seconds.values())
        self._known = self._whole > 0 and all(one.seconds is not None for one in expected.values())
        self._ended: set[str] = set()
        self._compared = [0.0, 0.0]
        """Seconds that the ended stages took, and that they were forecast with the items that they had."""

    def forecast(self, under_way: UnderWay) -> float | None:
        """Return the forecast seconds of a stage with the items that it turned out to have; None if unknown."""
        one = self._expected.get(under_way.stage)
        return one.seconds * under_way.work / one.work if one and one.seconds and one.work else None

    def surprise(self, under_way: UnderWay) -> str | None:
        """Return a sentence when a stage has so many more items than forecast that the time left grows."""
        more = (self.forecast(under_way) or 0.0) - self._seconds.get(under_way.stage, 0.0)
        if not self._known or more < SURPRISE * self._whole:
            return None
        return (
            f"{under_way.stage} has work for {under_way.work:.0f} items, and the forecast said "
            f"{self._expected[under_way.stage].work:.0f}: the time left grows"
        )

    def end(self, under_way: UnderWay) -> None:
        forecast = self.forecast(under_way)
        if under_way.stage not in self._ended and under_way.works and forecast:
            self._compared[0] += time.monotonic() - under_way.began
            self._compared[1] += forecast
        self._ended.add(under_way.stage)

    def share(self, under_way: UnderWay) -> float | None:
        """Return the share of the run's work that is done; None unless all of it could be forecast."""
        if not self._known:
            return None
        done = sum(seconds for name, seconds in self._seconds.items() if name in self._ended)
        here = 0.0 if under_way.stage in self._ended else self._seconds.get(under_way.stage, 0.0) * under_way.share
        return min(1.0, (done + here) / self._whole)

    def seconds_left(self, under_way: UnderWay) -> float | None:
        """Return the seconds left of the whole run; None as in :meth:`share`."""
        if not self._known:
            return None
        pace = self._pace(under_way)
        later = {name: seconds for name, seconds in self._seconds.items() if name not in self._ended}
        later.pop(under_way.stage, None)
        return (self.stage_seconds_left(under_way) or 0.0) + pace * sum(later.values())

    def stage_seconds_left(self, under_way: UnderWay) -> float | None:
        forecast = self.forecast(under_way)
        return under_way.seconds_left(None if forecast is None else forecast * self._pace(under_way))

    def _pace(self, under_way: UnderWay) -> float:
        """Return the seconds that a forecast second takes here and now."""
        took, forecast = self._compared
        here = None if under_way.stage in self._ended else self.forecast(under_way)
        if here:
            took, forecast = took + time.monotonic() - under_way.began, forecast + here * under_way.share
        prior = TRUST * self._whole
        return (prior + took) / (prior + forecast) if self._whole else 1.0
