"""Room on the disk of a local store. A store behind a URL has no end that this machine could see."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from flows.engine.estimates import of_model, usual_bytes
from flows.engine.stage import Item, RunStopped, Stage
from storage import Store
from storage.folders import LocalFolder

RESERVE: Final = 5e8
"""Bytes that a run leaves free: the records of how it ended, and the items that other processes are about to commit,
still find room. Nothing half-written stays on a full disk, but a run that can't write its record looks killed."""
LOW: Final = 0.1
"""Share of the disk below which a run says how little is free."""
_SAMPLE: Final = 200
"""Results of a stage whose sizes are looked at. Keys are hashes, so the first ones are any."""


class NoRoom(RunStopped):
    """The store's disk is nearly full."""


def check_room(store: Store) -> None:
    """Raises :class:`NoRoom` when less than the reserve is free."""
    usage = _usage(store)
    if usage is not None and usage.free < RESERVE:
        raise NoRoom(
            f"the disk of the store at {store.address} has {size_text(usage.free)} left, and a run leaves "
            f"{size_text(RESERVE)} free; what was computed is kept: make room (`ipa store gc` shows what can go) and "
            "run the same command again"
        )


def shortage(store: Store, what: str, needed: float) -> str | None:
    """Return a sentence when so many bytes don't find room, else None."""
    usage = _usage(store)
    if usage is None or needed + RESERVE <= usage.free:
        return None
    return (
        f"{what} needs about {size_text(needed)}, and the disk of the store at {store.address} has "
        f"{size_text(usage.free)} free; the run stops before the disk is full (`ipa store gc` shows what can go)"
    )


class Room:
    """What a run says about the room for its items."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._said_low = False

    def note(self, stage: Stage[Any], items: Sequence[Item]) -> str | None:
        """Return a sentence when these items may not find room, or for the first time that little is free. It stops no
        run: earlier items, by whose sizes it goes, may have been larger."""
        usage = _usage(self._store)
        if usage is None or usage.free < RESERVE:  # check_room says that.
            return None
        needed = self._usual(stage, items) * sum(stage.work(item.action) for item in items)
        sentence = shortage(self._store, stage.name, needed)
        if sentence is not None or self._said_low or usage.free >= LOW * usage.total:
            return sentence
        self._said_low = True
        free = f"{size_text(usage.free)} free, {100 * usage.free / usage.total:.0f} %"
        return f"the disk of the store at {self._store.address} has {free}; `ipa store gc` shows what can go"

    def _usual(self, stage: Stage[Any], items: Sequence[Item]) -> float:
        keys = islice(self._store.actions.keys(stage.name), _SAMPLE)
        some = self._store.actions.lookup(stage.name, keys).values()
        return usual_bytes(stage, of_model(stage, some, items[0].action.inputs.get("model"))) or 0.0


def _usage(store: Store) -> Any | None:
    """Return total, used and free bytes; None behind a URL."""
    if not isinstance(store.folder, LocalFolder):
        return None
    path = store.folder.path
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists()))


def size_text(size: float) -> str:
    """Return bytes as text for people."""
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
