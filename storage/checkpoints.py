"""Checkpoints: the states from which a long action continues after a kill."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from storage.digest import digest_bytes
from storage.folders import open_folder

log = logging.getLogger(__name__)

_KEPT = 2


class Checkpoints:
    """The newest two states of each action at ``<address>/checkpoints/<key>/<step>-<digest>``."""

    def __init__(self, address: str | Path) -> None:
        self._folder = open_folder(address)

    def save(self, key: str, step: int, data: bytes) -> None:
        """Write a state durably, then remove all but the newest two."""
        name = f"{_place(key)}/{step:012d}-{digest_bytes(data)}"
        self._folder.write(name, data)
        same_step = [other for other in self._names(key) if _step(other) == step and other != name]
        older = [other for other in self._names(key) if _step(other) < step]
        for outdated in same_step + older[_KEPT - 1 :]:
            self._folder.delete(outdated)

    def load(self, key: str) -> tuple[int, bytes] | None:
        """Step and bytes of the newest intact state, or None. Damaged states are removed."""
        for name in self._names(key):
            data = self._folder.read(name)
            if data is not None and digest_bytes(data) == name.rpartition("-")[2]:
                return _step(name), data
            log.warning("The checkpoint of step %d is damaged; an earlier one is taken.", _step(name))
            self._folder.delete(name)
        return None

    def clear(self, key: str) -> None:
        """Remove all states of an action that has ended."""
        for name in self._names(key):
            self._folder.delete(name)

    def _names(self, key: str) -> list[str]:
        """The names of the states, the newest first."""
        return sorted(filter(digest_of_state, self._folder.names(_place(key))), reverse=True)


def digest_of_state(name: str) -> str | None:
    """The digest that the name of a state's file says; None for other files."""
    found = re.fullmatch(r"checkpoints/[^/]+/\d{12}-([0-9a-f]{64})", name)
    return found and found[1]


def _place(key: str) -> str:
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", key):
        raise ValueError(f"a checkpoint's key is letters, digits, - and _, got {key!r}")
    return f"checkpoints/{key}"


def _step(name: str) -> int:
    return int(name.rpartition("/")[2].partition("-")[0])
