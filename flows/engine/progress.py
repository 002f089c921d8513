"""Progress on stderr: a bar with the time left on a terminal, a line now and then in a log; numbers to a listener."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

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
    """Share of the work that is done, in [0, 1]; a long item counts by its parts."""
    seconds_left: float | None
    """None while there is no estimate."""

    def sentence(self) -> str:
        text = f"{self.stage:<10} {self.done}/{self.misses} ({100 * self.share:.0f} %)"
        return text if self.seconds_left is None else f"{text}, about {span(self.seconds_left)} left"


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
        self._stage: str | None = None
        self._cached = self._misses = self._failed = 0
        self._done: set[str] = set()
        """Keys of items with an outcome."""
        self._parts: dict[str, float] = {}
        """Share of each item under way, by key."""
        self._started = self._said = self._told = 0.0
        self._since: tuple[float, float] | None = None
        """Time and share at the first report of the stage's work."""
        self._share = 1.0
        self._first = (0.0, 0.0)
        """Time and share at the first report of the work outside the stages."""

    def start(self, stage: str, *, cached: int, misses: int) -> None:
        with self._lock:
            if stage != self._stage:
                self._cached = self._misses = self._failed = 0
                self._done, self._parts = set(), {}
                self._started = self._said = self._told = time.monotonic()
                self._since = None
            self._stage = stage
            self._cached += cached
            self._misses += misses
            if misses:
                self._say(now=True)

    def done(self, outcome: Outcome) -> None:
        with self._lock:
            self._parts.pop(outcome.key, None)
            if outcome.lost or outcome.key in self._done:
                return
            self._done.add(outcome.key)
            if outcome.error is not None:
                self._failed += 1
                self.line(f"{self._stage}: an item failed: {outcome.error}")
            self._say()

    def part(self, key: str, share: float) -> None:
        with self._lock:
            if key not in self._done:
                self._parts[key] = share
                self._say()

    def finish(self, stage: str, counts: str) -> None:
        spent = time.monotonic() - self._started if stage == self._stage else 0.0
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
        if moment - self._said >= self._every or share >= 1:
            self._said = moment
            left = _left(self._first, share)
            about = "" if left is None or share >= 1 else f", about {span(left)} left"
            self.line(f"{what} ({100 * share:.0f} %{about})")

    def _say(self, *, now: bool = False) -> None:
        moment = time.monotonic()
        if self._since is None and (self._done or any(self._parts.values())):
            self._since = (moment, self._share_done())
        if now or moment - self._told >= self._every:
            self._told = moment
            self._listen(self._now())
        if self._quiet or (not now and moment - self._said < (0.2 if self._bar else self._every)):
            return
        self._said = moment
        text = self._now().sentence()
        if self._bar:
            print(f"\r\x1b[K{text}", end="", file=self._stream, flush=True)
        else:
            self.line(text)

    def _share_done(self) -> float:
        return (len(self._done) + sum(self._parts.values())) / self._misses if self._misses else 1.0

    def _now(self) -> StageProgress:
        assert self._stage is not None
        share = self._share_done()
        return StageProgress(
            self._stage, self._cached, self._misses, len(self._done), self._failed, share, self._seconds_left(share)
        )

    def _seconds_left(self, share: float) -> float | None:
        """Estimate by the speed since the first report. Before it, models were loaded, and an earlier run may have done
        a part. A batch may report all its items at once, so some time must pass first."""
        if self._since is None:
            return None
        moment, _ = self._since
        if time.monotonic() - moment < (moment - self._started) / 4:
            return None
        return _left(self._since, share)


def _left(since: tuple[float, float], share: float) -> float | None:
    """Return the seconds until share 1, by the speed since a (moment, share)."""
    begun, known = since
    return (time.monotonic() - begun) * (1 - share) / (share - known) if share > known else None


def span(seconds: float) -> str:
    """Format a time in seconds, minutes or hours, by its size."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
