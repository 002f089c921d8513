"""Leases: who computes an action just now, so that several processes on one store compute it once.

A lease is the file ``<address>/leases/<key>.json``. It saves work and guards nothing: where it can't be written, or is
broken by mistake, an action is computed twice, and the first committed result stands.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from storage.digest import json_bytes
from storage.errors import StoreError, one_sentence
from storage.folders import LocalFolder, open_folder

LEASES: Final = "leases"
"""The folder of all leases in a store."""

_BEAT: Final = 10.0
"""Seconds between two signs of life of a lease's holder."""
_STALE: Final = 45.0
"""Seconds without a sign of life after which a lease counts for nothing. The observer measures them by its own clock,
from the time when it sees a lease first."""


class Leases:
    """Several processes may use one address at once. Its methods raise nothing when disk or network fail."""

    def __init__(self, address: str | Path) -> None:
        self._folder = open_folder(address)
        self._seen: dict[str, tuple[bytes, float]] = {}
        """Lease of another process, and when it was seen first, by key."""

    @contextmanager
    def claimed(self, key: str) -> Iterator[bool]:
        """Hold the lease of an action within the block. Yield False when another process computes the action."""
        mine = _Lease(_name(key))
        held = self._claim(key, mine)
        if not held:
            yield held is None
            return
        ended = threading.Event()
        beats = threading.Thread(target=self._beat, args=(mine, ended), daemon=True)
        beats.start()
        try:
            yield True
        finally:
            ended.set()
            beats.join()
            with suppress(StoreError):
                if self._folder.read(mine.name) == mine.content:
                    self._folder.delete(mine.name)

    def is_free(self, key: str) -> bool:
        """Whether no living process computes the action. The lease of a dead one is removed."""
        with suppress(StoreError):
            content = self._folder.read(_name(key))
            if content is None:
                self._seen.pop(key, None)
                return True
            now = time.monotonic()
            if key not in self._seen or self._seen[key][0] != content:
                self._seen[key] = content, now
            if not _is_dead(content) and now - self._seen[key][1] < _STALE:
                return False
            self._folder.delete(_name(key))
        return True

    def drop(self, key: str) -> None:
        """Remove the lease of an action whose process is known to be dead, wherever it was."""
        with suppress(StoreError):
            self._folder.delete(_name(key))

    def _claim(self, key: str, mine: _Lease) -> bool | None:
        """Return whether the lease is held now; None where no leases can be written."""
        try:
            return self._create(mine) or (self.is_free(key) and self._create(mine))
        except StoreError:
            return None

    def _create(self, mine: _Lease) -> bool:
        """Write a lease; False where there is one. It need not survive a crash, so it is not synced."""
        if not isinstance(self._folder, LocalFolder):
            return self._folder.write(mine.name, mine.content, replace=False)
        path = self._folder.path / mine.name
        with one_sentence(f"write {path}"):
            path.parent.mkdir(exist_ok=True)
            try:
                with path.open("xb") as file:
                    file.write(mine.content)
            except FileExistsError:
                return False
        return True

    def _beat(self, mine: _Lease, ended: threading.Event) -> None:
        while not ended.wait(_BEAT):
            with suppress(StoreError):
                if self._folder.read(mine.name) != mine.content:
                    return  # Another process took this one for dead.
                mine.beats += 1
                self._folder.write(mine.name, mine.content)


class _Lease:
    """A lease of this process. Its content changes with each beat."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.beats = 0
        self._nonce = uuid.uuid4().hex

    @property
    def content(self) -> bytes:
        return json_bytes({"place": _place(), "process": os.getpid(), "nonce": self._nonce, "beats": self.beats})


def _is_dead(content: bytes) -> bool:
    """Whether the holder was a process of this place that has ended. Half-written content says nothing."""
    try:
        about = json.loads(content)
        return bool(about["place"] == _place()) and not _is_alive(about["process"])
    except (ValueError, KeyError, TypeError):
        return False


def _place() -> str:
    """Where a process number has a meaning: this boot and this container of a machine."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # This system is no Linux.
        return socket.gethostname()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


def _name(key: str) -> str:
    return f"{LEASES}/{key}.json"
