"""End a worker with its parent: a killed parent can't tell its workers, and they would wait for work for ever."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """End this process of `multiprocessing` when its parent ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def end_with_pipe(descriptor: int) -> None:
    """End this process at once when the other side of a pipe is closed, also by the end of its process."""
    threading.Thread(target=_end_at_eof, args=(descriptor,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _end_at_eof(descriptor: int) -> None:
    # Not through sys.stdin: this thread would hold its lock when the process ends by itself.
    while os.read(descriptor, 1024):
        pass
    os._exit(1)
