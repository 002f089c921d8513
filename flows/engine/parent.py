"""A worker ends with its parent: one that is killed can't tell its workers, and they would wait for work for ever."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """Called in a process of `multiprocessing`."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def end_with_pipe(descriptor: int) -> None:
    """End this process, at once, when the other side of a pipe is closed, as it is when its process ends."""
    threading.Thread(target=_end_at_eof, args=(descriptor,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _end_at_eof(descriptor: int) -> None:
    # Not through sys.stdin, whose lock would be held when the process ends by itself.
    while os.read(descriptor, 1024):
        pass
    os._exit(1)
