"""Collect garbage: find the results and objects that nothing kept names, and remove files in an order that is safe.

A result names its inputs and outputs. So results go before objects: whatever stops a collection, every remaining result
has its bytes, and the next collection goes on.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from storage.actions import Store
from storage.digest import is_digest
from storage.leases import LEASES

SPARED_SECONDS: Final = 3600.0
"""Younger files stay: they may belong to a result, or to the record of a run, that will be written soon."""


@dataclass(frozen=True)
class Roots:
    """The results and objects that people and runs name. All that they follow from stays with them."""

    actions: frozenset[str] = frozenset()
    """Keys."""
    objects: frozenset[str] = frozenset()
    judged: frozenset[str] = frozenset()
    """Objects that people judged. The results that read them stay too."""


@dataclass(frozen=True)
class Marked:
    """The keys of the results, and the digests of the objects, that stay."""

    actions: frozenset[str]
    objects: frozenset[str]


@dataclass(frozen=True)
class Garbage:
    """Files of one kind that can go."""

    kind: str
    count: int
    """Number of the things: a run has several files."""
    names: tuple[str, ...]
    """Names of the files in the store, in the order of their removal."""
    bytes: int
    """Bytes that become free. A file with another name (a link) that stays frees nothing."""


def mark(store: Store, roots: Roots) -> Marked:
    """Follow the results from the roots: to their inputs, and to the results that made these. Raises
    :class:`StoreError` for a result that this version can't read, because nobody knows what it names."""
    reads: dict[str, set[str]] = {}
    makes: dict[str, set[str]] = {}
    makers: dict[str, set[str]] = defaultdict(set)
    for stage in store.actions.stages():
        for key, result in store.actions.lookup(stage, store.actions.keys(stage)).items():
            reads[key] = set(result.action.inputs.values())
            makes[key] = {blob.digest for blob in result.outputs.values()}
            for digest in makes[key]:
                makers[digest].add(key)
    wanted = set(roots.objects | roots.judged)
    there: set[str] = set()
    actions: set[str] = set()
    more = set(roots.actions) | {key for key, inputs in reads.items() if not roots.judged.isdisjoint(inputs)}
    while True:
        actions |= more
        for key in more:
            wanted |= reads.get(key, set())
            there |= makes.get(key, set())
        # Another result may have made the same bytes. It stays only if no result that stays anyway made them.
        more = {maker for digest in wanted - there for maker in makers.get(digest, ())} - actions
        if not more:
            break
    return Marked(frozenset(actions), frozenset(wanted | there))


def unmarked(store: Store, marked: Marked) -> tuple[Garbage, Garbage]:
    """The results and the objects that do not stay. Young ones are left out."""
    results = [name for name in store.folder.names("actions") if _key(name) is not None]
    objects = [name for name in store.folder.names("objects") if _digest(name) is not None]
    return (
        garbage(store, "results", (name for name in results if _key(name) not in marked.actions)),
        garbage(store, "objects", (name for name in objects if _digest(name) not in marked.objects)),
    )


def temporaries(store: Store) -> Garbage:
    """The half-written files of killed processes."""
    return garbage(store, "half-written files", store.folder.temporaries(_before()))


def stale_leases(store: Store) -> Garbage:
    """The leases of killed processes. A living one renews its lease every few seconds."""
    return garbage(store, "stale leases", store.folder.names(LEASES))


def garbage(store: Store, kind: str, names: Iterable[str]) -> Garbage:
    """Single files as garbage of one kind. Young ones are left out."""
    found = list(names)
    old = [name for name, is_old in zip(found, _old(store, found), strict=True) if is_old]
    return Garbage(kind, len(old), tuple(old), store.folder.freed(old))


def remove(
    store: Store,
    found: Iterable[Garbage],
    held: Callable[[], Roots] = Roots,
    removed: Callable[[int], None] = lambda count: None,
) -> None:
    """Remove files in the order of ``found``, and call ``removed`` with their number so far.

    A result or object stays if it has become young or ``held`` names it: a run that began meanwhile may use it. So does
    a lease that has become young.
    """
    count = 0
    for kind in found:
        spared = _spared(store, held()) if kind.kind in ("results", "objects") else frozenset()
        for _ in store.folder.each(lambda name, spared=spared: _remove(store, name, spared), kind.names):  # type: ignore[misc]
            count += 1
            removed(count)
        for folder in sorted({name.split("/")[1] for name in kind.names if name.startswith("runs/")}):
            store.folder.remove_empty(f"runs/{folder}")


def _remove(store: Store, name: str, spared: frozenset[str]) -> None:
    thing = _key(name) or _digest(name)
    may_be_young = thing is not None or name.startswith(f"{LEASES}/")
    if thing not in spared and not (may_be_young and not _is_old(store, name, _before())):
        store.folder.delete(name)


def _spared(store: Store, held: Roots) -> frozenset[str]:
    """The results of these roots with the objects that they name themselves."""
    if not held.actions:
        return held.objects
    found = set(held.actions | held.objects)
    for stage in store.actions.stages():
        for result in store.actions.lookup(stage, held.actions).values():
            found.update(result.action.inputs.values(), (blob.digest for blob in result.outputs.values()))
    return frozenset(found)


def _before() -> float:
    return time.time() - SPARED_SECONDS


def _old(store: Store, names: Iterable[str]) -> Iterator[bool]:
    before = _before()
    return store.folder.each(lambda name: _is_old(store, name, before), names)


def _is_old(store: Store, name: str, before: float) -> bool:
    modified = store.folder.modified(name)
    return modified is not None and modified < before


def _key(name: str) -> str | None:
    """The key of a result's file; None for other files."""
    path = PurePosixPath(name)
    return path.stem if path.parts[0] == "actions" and is_digest(path.stem) else None


def _digest(name: str) -> str | None:
    """The digest of an object's file; None for other files."""
    parts = PurePosixPath(name).parts
    digest = "".join(parts[1:])
    return digest if parts[0] == "objects" and is_digest(digest) else None
