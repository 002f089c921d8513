"""Preferences between two videos by people: each says the person, the time, what they saw, and which side they prefer.

The preferences are small files, `preferences/ab/<digest of the pair>-000001.json`, ... (see :class:`Histories`). The
file `preferences/seed` draws which video is shown on the left. It is random, so nobody can derive the sides from what
a report shows, and it stays, so a page shows the same after a reload.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from ipa_core.records import Digest
from storage.digest import digest_config, is_digest
from storage.errors import StoreError
from storage.folders import open_folder
from storage.log import Histories, NumberedLog, Opinion

Side = Literal["left", "right"]
Preferred = Literal["left", "right", "same"]
"""``same``: the person sees no difference."""


class Preference(Opinion):
    """A preference: the answer of one person about two videos."""

    left: Digest
    """Digest of the video that the person saw on the left."""
    right: Digest
    answer: Preferred | None
    """``None`` takes back the person's earlier preference."""

    @property
    def video(self) -> Digest | None:
        """The preferred video."""
        return {"left": self.left, "right": self.right}.get(self.answer or "")


class Preferences(Histories[Preference]):
    """The preferences at ``<address>/preferences``, by :func:`pair_of` their videos. ``address`` belongs to a store: a
    path or an fsspec URL."""

    def __init__(self, address: str | Path) -> None:
        remedy = "bring it back from a copy, or let `ipa store repair` forget it"
        log = NumberedLog(address, "preferences", "preference", TypeAdapter(Preference), remedy)
        super().__init__(log, lambda said: pair_of(said.left, said.right))
        self._folder = open_folder(address).below("preferences")

    def seed(self) -> str:
        """The seed that draws the sides, 64 hex digits; the first call makes it. Raises :class:`StoreError`."""
        if self._folder.read("seed") is None:
            self._folder.write("seed", secrets.token_hex(32).encode(), replace=False)
        found = (self._folder.read("seed") or b"").decode(errors="replace")
        if not is_digest(found):
            raise StoreError(f"{self._folder.address('seed')} is damaged; `ipa store repair` forgets it")
        return found


def pair_of(one: Digest, other: Digest) -> Digest:
    """The name of a pair of videos, in any order."""
    return digest_config(sorted((one, other)))


def stood_by(history: Iterable[Preference]) -> list[Preference]:
    """The latest preference of each person in a pair's history. Without those that were taken back."""
    latest = {said.by: said for said in history}
    return [said for said in latest.values() if said.answer is not None]
