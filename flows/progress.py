"""Progress on stderr: a bar with the time left on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from flows.stage import ItemResult, StageName


class Progress:
    """Counts the items of the stage that runs. ``part`` lets one long item tell how far it is."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False, every: float = 5.0) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._bar = self._stream.isatty() and not quiet
        self._every = every
        self._stage: StageName | None = None
        self._cached = self._misses = self._done = 0
        self._started = self._said = 0.0

    def start(self, stage: StageName, *, cached: int, misses: int) -> None:
        if stage != self._stage:
            self._cached = self._misses = self._done = 0
            self._started = self._said = time.monotonic()
        self._stage = stage
        self._cached += cached
        self._misses += misses
        if misses:
            self._say(0.0, now=True)

    def advance(self, error: str | None) -> None:
        self._done += 1
        if error is not None:
            self.line(f"{self._stage}: an item failed: {error}")
        self._say(0.0)

    def part(self, done: int, total: int) -> None:
        """How far the current item is."""
        self._say(done / total if done < total else 0.0)

    def finish(self, stage: StageName, entries: list[ItemResult]) -> None:
        cached = sum(entry.status == "cached" for entry in entries)
        computed = sum(entry.status == "computed" for entry in entries)
        rejected = sum(entry.result is not None and entry.result.outcome == "rejected" for entry in entries)
        failed = sum(entry.status == "failed" for entry in entries)
        spent = time.monotonic() - self._started if stage == self._stage else 0.0
        text = f"{stage:<10} {len(entries)} items: {cached} cached, {computed} computed"
        text += f", {rejected} rejected" if rejected else ""
        text += f", {failed} failed" if failed else ""
        self.line(f"{text} ({spent:.1f} s)")

    def line(self, text: str) -> None:
        if not self._quiet:
            clear = "\r\x1b[K" if self._bar else ""
            print(f"{clear}{text}", file=self._stream, flush=True)

    def share(self, what: str, share: float) -> None:
        """How far work outside of the stages is, ``share`` in [0, 1]."""
        moment = time.monotonic()
        if moment - self._said >= self._every or share >= 1:
            self._said = moment
            self.line(f"{what} ({100 * share:.0f} %)")

    def _say(self, part: float, *, now: bool = False) -> None:
        moment = time.monotonic()
        if self._quiet or (not now and moment - self._said < (0.2 if self._bar else self._every)):
            return
        self._said = moment
        share = (self._done + part) / self._misses if self._misses else 1.0
        text = f"{self._stage:<10} {self._done}/{self._misses} ({100 * share:.0f} %)"
        if share > 0:
            text += f", about {_span((moment - self._started) * (1 - share) / share)} left"
        if self._bar:
            print(f"\r\x1b[K{text}", end="", file=self._stream, flush=True)
        else:
            self.line(text)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
