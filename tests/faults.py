"""A disk that fails, for tests and benchmarks: the n-th operation below a folder raises an error of the system."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

_CHANGES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_PATHS: Final = {"os.rename": 2, "os.link": 2, "os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.utime": 1}
"""Operations that Python announces to its audit hooks, and how many of their arguments are paths."""
_open, _fsync = io.open, os.fsync
_disk: FaultyDisk | None = None


class FaultyDisk:
    """Counts the operations below a folder that change it, and with ``reads`` those that open a file to read.

    The operation ``number`` (from 1 on) fails, and with ``lasting`` all after it fail too, as on a full disk.
    """

    def __init__(self, folder: Path, number: int, error: int, *, lasting: bool = False, reads: bool = False) -> None:
        self._folder = os.path.realpath(folder)
        self._number = number
        self._error = error
        self._lasting = lasting
        self._reads = reads
        self.count = 0
        """Operations so far."""

    @property
    def failed(self) -> bool:
        return self.count >= self._number

    def touch(self, path: object, *, changes: bool = True) -> None:
        if not isinstance(path, str | bytes | os.PathLike) or not (changes or self._reads):
            return
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - resolving links would touch the disk
        if place != self._folder and not place.startswith(f"{self._folder}/"):
            return
        self.count += 1
        if self.count == self._number or (self._lasting and self.failed):
            raise OSError(self._error, os.strerror(self._error), os.fsdecode(path))


class _Raw(io.FileIO):
    """A file whose every write is an operation of the disk."""

    def write(self, data: Any) -> int:
        if _disk is not None:
            _disk.touch(self.name)
        return super().write(data)


def _faulty_open(file: Any, mode: str = "r", buffering: int = -1, *options: Any, **named: Any) -> Any:
    if _disk is None or not set(mode) & set("wxa+") or "b" not in mode or isinstance(file, int):
        return _open(file, mode, buffering, *options, **named)
    raw = _Raw(os.fspath(file), mode.replace("b", ""))
    return raw if buffering == 0 else io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)


def _faulty_fsync(descriptor: Any) -> None:
    if _disk is not None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        _disk.touch(Path(f"/proc/self/fd/{number}").readlink())
    _fsync(descriptor)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if _disk is None:
        return
    if event == "open":
        path, _, flags = arguments
        _disk.touch(path, changes=bool(flags & _CHANGES))
    elif event in _PATHS:
        _disk.touch(arguments[_PATHS[event] - 1])


sys.addaudithook(_heard)  # It stays as long as the process, and does nothing without a disk.


@contextmanager
def failing(
    folder: Path, number: int, error: int = errno.ENOSPC, *, lasting: bool = False, reads: bool = False
) -> Iterator[FaultyDisk]:
    """Let operations of this process below a folder fail within the block. Number 0: none does, they are counted."""
    global _disk
    disk = FaultyDisk(folder, number or sys.maxsize, error, lasting=lasting, reads=reads)
    with patch("io.open", _faulty_open), patch("builtins.open", _faulty_open), patch("os.fsync", _faulty_fsync):
        _disk = disk
        try:
            yield disk
        finally:
            _disk = None
