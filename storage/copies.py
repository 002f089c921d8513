"""Copies of remote objects on this machine. Those that nobody used for the longest time go when they are too many."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from storage.errors import one_sentence
from storage.folders import make_folder, publish, temporary_for

GIGABYTES: Final = 100.0
"""Size of the copies unless `execution.cache_gb` says another."""
_SPARED: Final = 3600.0
"""Seconds since its last use in which a copy stays: somebody may read it just now."""
_AIM: Final = 0.9
"""Share of the size that is left after a cleaning, so that the next one comes later."""


class Copies:
    """The files of a folder, at most ``size`` bytes of them as far as none was used within an hour."""

    def __init__(self, folder: Path, size: float) -> None:
        self._folder = folder
        self._limit = size
        self._size: int | None = None

    def add(self, path: Path, fetch: Callable[[Path], bool]) -> bool:
        """Put the file that ``fetch`` writes at ``path`` of the folder; False where there is nothing to fetch."""
        with one_sentence(f"write {path}"):
            temporary = temporary_for(path)
            make_folder(path.parent)
            try:
                if not fetch(temporary):
                    return False
                self._make_room(temporary.stat().st_size)
                publish(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def used(self, path: Path) -> None:
        """Note that a copy is in use."""
        with suppress(OSError):
            os.utime(path, (time.time(), path.stat().st_mtime))

    def _make_room(self, size: int) -> None:
        if self._size is None:
            self._size = sum(stat.st_size for _, stat in self._found())
        self._size += size
        if self._size <= self._limit:
            return
        left, now = self._size, time.time()
        for path, stat in sorted(self._found(), key=lambda found: found[1].st_atime):
            if left <= _AIM * self._limit or now - stat.st_atime < _SPARED:
                break
            path.unlink(missing_ok=True)
            left -= stat.st_size
        self._size = left

    def _found(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self._folder.rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file() and not path.name.startswith("."):  # Hidden ones are half-written.
                    found.append((path, path.stat()))
        return found
