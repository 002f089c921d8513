"""Maintenance of a store: count its contents, verify its bytes, and drop objects. `storage.collection` removes what
nothing names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from storage.actions import Store
from storage.damage import Damage, damages
from storage.errors import CorruptObject, MissingObject


@dataclass(frozen=True)
class StoreStat:
    """Number of objects, their bytes, number of results by stage, and number of damaged objects in quarantine."""

    objects: int
    bytes: int
    actions: dict[str, int]
    quarantined: int


@dataclass(frozen=True)
class IncompleteAction:
    """A result with outputs whose bytes are not in the store: they were dropped on purpose, or damaged."""

    stage: str
    key: str
    missing: tuple[str, ...]
    """The names of these outputs."""


@dataclass(frozen=True)
class VerifyReport:
    """Number of objects read, digests of the damaged ones (now in quarantine), other damage, and results that lack
    bytes."""

    objects: int
    corrupt: tuple[str, ...]
    damaged: tuple[Damage, ...]
    incomplete: tuple[IncompleteAction, ...]


@dataclass(frozen=True)
class Removed:
    """Number of removed objects, and their bytes."""

    objects: int
    bytes: int


def stat(store: Store) -> StoreStat:
    """Count the contents without reading any object."""
    sizes = [size for _, size in store.objects.all()]
    actions = {stage: sum(1 for _ in store.actions.keys(stage)) for stage in store.actions.stages()}
    return StoreStat(len(sizes), sum(sizes), actions, len(store.objects.quarantined()))


def verify(store: Store, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
    """Read every object and record again, and call ``progress(bytes read, bytes in all)`` after each.

    Damaged objects go to quarantine. Their actions are computed again when their bytes are needed.
    """
    objects = list(store.objects.all())
    total = sum(size for _, size in objects)
    done = 0
    corrupt = []
    intact = store.folder.each(lambda about: _intact(store, about[0]), objects)
    for (digest, size), right in zip(objects, intact, strict=True):
        if not right:
            corrupt.append(digest)
        done += size
        if progress is not None:
            progress(done, total)
    return VerifyReport(len(objects), tuple(corrupt), tuple(damages(store)), tuple(_incomplete(store)))


def drop(store: Store, digests: Iterable[str]) -> Removed:
    """Remove objects, for retention. Their actions stay, and are computed again only when the bytes are needed."""
    sizes = [size for size in store.folder.each(lambda digest: _delete(store, digest), digests) if size is not None]
    return Removed(len(sizes), sum(sizes))


def _delete(store: Store, digest: str) -> int | None:
    """The size of the removed object; None where there was no such object."""
    try:
        size = store.objects.size(digest)
    except MissingObject:
        return None
    store.objects.delete(digest)
    return size


def _intact(store: Store, digest: str) -> bool:
    try:
        store.objects.check(digest)
    except CorruptObject:
        return False
    except MissingObject:  # Another process removed it after the listing.
        pass
    return True


def _incomplete(store: Store) -> Iterable[IncompleteAction]:
    for stage in store.actions.stages():
        results = list(store.actions.all(stage))
        absent = store.objects.missing(blob.digest for result in results for blob in result.outputs.values())
        for result in results:
            missing = tuple(name for name, blob in result.outputs.items() if blob.digest in absent)
            if missing:
                yield IncompleteAction(stage, result.key, missing)
