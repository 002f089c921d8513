"""Progress on stderr: a bar with the time left on a terminal, a line now and then in a log; numbers to a listener."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

from flows.engine.course import Course, Expected, UnderWay
from flows.engine.work import Outcome


@dataclass(frozen=True)
class StageProgress:
    stage: str
    cached: int
    misses: int
    """Items to compute."""
    done: int
    """Misses that have an outcome."""
    failed: int
    share: float
    """Share of the stage's work that is done, in [0, 1]; a long item counts by its parts."""
    seconds_left: float | None
    """Of the stage. None while there is no estimate."""
    run_share: float | None = None
    """Share of the run's work that is done, in [0, 1]. None unless all of the work could be forecast."""
    run_seconds_left: float | None = None

    def sentence(self) -> str:
        text = f"{self.stage:<10} {self.done}/{self.misses}"
        if self.run_share is None or self.run_seconds_left is None:
            about = "" if self.seconds_left is None else f", about {span(self.seconds_left)} left of this stage"
            return f"{text} ({percent(self.share)}){about}"
        return f"{text} ({percent(self.run_share)} of the run), about {span(self.run_seconds_left)} left"


_silent = False


def silence() -> None:
    """Show no progress in this process."""
    global _silent
    _silent = True


class Progress:
    """A `Listener` that counts the items of the running stage. Threads may share it.

    ``listen`` gets the numbers when a stage starts, and at most every ``every`` seconds while it runs.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
        every: float = 5.0,
        listen: Callable[[StageProgress], None] = lambda progress: None,
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet or _silent
        self._bar = self._stream.isatty() and not self._quiet
        self._every = every
        self._listen = listen
        self._lock = threading.RLock()
        self._course = Course({})
        self._stage = UnderWay("")
        self._names: Mapping[str, str] = {}
        self._cached = self._failed = 0
        self._started = self._said = self._told = 0.0
        self._share = 1.0
        self._first = (0.0, 0.0)
        """Time and share at the first report of the work outside the stages."""

    def expect(self, stages: Mapping[str, Expected]) -> None:
        """Take the forecast of a run's stages, once, before anything is computed."""
        self._course = Course(stages)

    def start(
        self, stage: str, *, cached: int, works: Mapping[str, float], names: Mapping[str, str] | None = None
    ) -> None:
        """Begin a stage, or its next wave of items. ``works``: the work of each item to compute, by key; ``names``:
        their names for people."""
        with self._lock:
            self._names = names or {}
            if stage != self._stage.stage:
                self._cached = self._failed = 0
                self._stage = UnderWay(stage)
                self._started = self._said = self._told = time.monotonic()
            self._cached += cached
            self._stage.add(works)
            if works:
                surprise = self._course.surprise(self._stage)
                if surprise is not None:
                    self.line(f"note: {surprise}")
                self._say(now=True)

    def done(self, outcome: Outcome) -> None:
        with self._lock:
            if outcome.lost or outcome.under_way or outcome.key in self._stage.done:
                return
            self._stage.end(outcome.key)
            if outcome.error is not None:
                self._failed += 1
                self.line(f"{self._stage.stage}: {self._names.get(outcome.key, 'an item')} failed: {outcome.error}")
            self._say()

    def part(self, key: str, share: float) -> None:
        with self._lock:
            self._stage.part(key, share)
            self._say()

    def finish(self, stage: str, counts: str) -> None:
        with self._lock:
            spent = time.monotonic() - self._started if stage == self._stage.stage else 0.0
            self._course.end(self._stage if stage == self._stage.stage else UnderWay(stage))
        self.line(f"{stage:<10} {counts} ({spent:.1f} s)")

    def line(self, text: str) -> None:
        if not self._quiet:
            clear = "\r\x1b[K" if self._bar else ""
            print(f"{clear}{text}", file=self._stream, flush=True)

    def share(self, what: str, share: float) -> None:
        """Show the progress of work outside the stages, ``share`` in [0, 1]. A smaller share than before starts new
        work. The speed counts from the first report, because the share at that time may be an earlier run's."""
        moment = time.monotonic()
        if share < self._share:
            self._first = (moment, share)
        self._share = share
        if share < 1 and moment - self._said < (0.2 if self._bar else self._every):
            return
        self._said = moment
        left = _left(self._first, share)
        about = "" if left is None or share >= 1 else f", about {span(left)} left"
        self._show(f"{what} ({percent(share)}{about})", stays=share >= 1)

    def _say(self, *, now: bool = False) -> None:
        moment = time.monotonic()
        if now or moment - self._told >= self._every:
            self._told = moment
            self._listen(self._now())
        if now or moment - self._said >= (0.2 if self._bar else self._every):
            self._said = moment
            self._show(self._now().sentence())

    def _show(self, text: str, *, stays: bool = False) -> None:
        """Show a line that the next one replaces on a terminal, unless it ``stays``."""
        if self._bar and not stays:
            print(f"\r\x1b[K{text}", end="", file=self._stream, flush=True)
        else:
            self.line(text)

    def _now(self) -> StageProgress:
        stage, course = self._stage, self._course
        return StageProgress(
            stage.stage,
            self._cached,
            len(stage.works),
            len(stage.done),
            self._failed,
            stage.share,
            course.stage_seconds_left(stage),
            course.share(stage),
            course.seconds_left(stage),
        )


def _left(since: tuple[float, float], share: float) -> float | None:
    """Return the seconds until share 1, by the speed since a (moment, share)."""
    begun, known = since
    return (time.monotonic() - begun) * (1 - share) / (share - known) if share > known else None


def percent(share: float) -> str:
    """Format a share in whole per cent; only all of it is 100 %."""
    return f"{int(100 * share + 1e-9)} %"


def span(seconds: float) -> str:
    """Format a time in seconds, minutes or hours, by its size."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
