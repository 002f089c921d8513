"""Scratch folders that tell whether their process lives: it holds a lock on the folder, which ends with the process."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = "ipa-scratch-"
_YOUNG: Final = 60.0
"""Seconds in which a process surely locks the folder that it has made."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder that goes at the end of the block."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # A file system without locks: its folders never count as abandoned.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(folder)
        finally:
            os.close(descriptor)


def abandoned() -> list[Path]:
    """Return this user's scratch folders on this machine whose process was killed."""
    found = []
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        with suppress(OSError):  # It went just now.
            about = folder.stat()
            old = time.time() - about.st_mtime > _YOUNG
            if about.st_uid == os.getuid() and old and _is_free(folder):
                found.append(folder)
    return found


def _is_free(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
