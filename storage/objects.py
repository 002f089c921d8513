"""ObjectStore: blobs that are named by the digest of their bytes and verified whenever they are opened."""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Final, NoReturn

from storage.copies import GIGABYTES, Copies
from storage.digest import digest_bytes, digest_file, digest_in, is_digest
from storage.errors import CorruptObject, MissingObject, one_sentence
from storage.folders import LocalFolder, cache_folder, open_folder

LINKED: Final = 64 * 2**20
"""Bytes from which on an export may be a link to the object, and smaller ones are copies. The link is read-only, which
does not stop root."""


class ObjectStore:
    """Content-addressable blobs at ``<address>/objects/ab/cdef...``; ``address`` is a path or an fsspec URL.

    Every method that takes a digest raises ``ValueError`` for other text. Every method raises :class:`StoreError`, in
    one sentence, where disk or network fail.
    """

    def __init__(self, address: str | Path, cache_gb: float = GIGABYTES) -> None:
        self._folder = open_folder(address)
        self._cache_gb = cache_gb
        self._verified: dict[str, tuple[int, int, int]] = {}

    def put(self, data: bytes | mmap.mmap) -> str:
        """Store bytes durably and return their digest. Bytes that the store has already are not written again."""
        digest = digest_bytes(data)
        if not self._folder.refresh(_name(digest), len(data)):
            self._folder.write(_name(digest), data)
        return digest

    def put_file(self, path: Path) -> str:
        """Store the bytes of a file as :meth:`put` does, without loading them."""
        with one_sentence(f"read {path}"):
            if not isinstance(self._folder, LocalFolder):
                digest = digest_file(path)
                if not self._folder.refresh(_name(digest), path.stat().st_size):
                    self._folder.upload(_name(digest), path)
                return digest
            if path.stat().st_size == 0:
                return self.put(b"")  # An empty file can't be memory-mapped.
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return self.put(data)

    def get(self, digest: str) -> bytes:
        """The verified bytes. Raises :class:`MissingObject`, :class:`CorruptObject`."""
        data = self._folder.read(_name(digest))
        if data is None:
            raise MissingObject(digest)
        if digest_bytes(data) != digest:
            self._quarantine(digest)
        return data

    def path(self, digest: str) -> Path:
        """A local file with the verified bytes, for reading only. For a remote store it is a local copy.

        The file is verified once per process, and again when its stat changes. Raises :class:`MissingObject`,
        :class:`CorruptObject`.
        """
        if not isinstance(self._folder, LocalFolder):
            return self._local_copy(digest)
        stat = self._folder.stat(_name(digest))
        if stat is None:
            raise MissingObject(digest)
        identity = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if self._verified.get(digest) != identity:
            self.check(digest)
            self._verified[digest] = identity
        return self._folder.path / _name(digest)

    def check(self, digest: str) -> None:
        """Read an object again and compare its digest. Raises :class:`MissingObject`, :class:`CorruptObject`."""
        found = digest_in(self._folder, _name(digest))
        if found is None:
            raise MissingObject(digest)
        if found != digest:
            self._quarantine(digest)

    def has(self, digest: str) -> bool:
        return self._folder.size(_name(digest)) is not None

    def missing(self, digests: Iterable[str]) -> set[str]:
        """The digests that the store does not have, of many at once."""
        folders = defaultdict(set)
        for digest in digests:
            folders[_name(digest).rpartition("/")[0]].add(digest)
        return set().union(*self._folder.each(self._absent, folders.items()))

    def _absent(self, wanted_in: tuple[str, set[str]]) -> set[str]:
        """The digests of one folder that the store does not have."""
        folder, wanted = wanted_in
        if len(wanted) < 8:
            return {digest for digest in wanted if not self.has(digest)}
        there = set(self._folder.names(folder))
        return {digest for digest in wanted if _name(digest) not in there}

    def size(self, digest: str) -> int:
        """The size in bytes. Raises :class:`MissingObject`."""
        size = self._folder.size(_name(digest))
        if size is None:
            raise MissingObject(digest)
        return size

    def export(self, digest: str, name: str, *, link: bool = False) -> None:
        """Copy an object to another name in the store, for people. With ``link`` a large object takes its space once.

        Raises :class:`MissingObject`. A local store also raises :class:`CorruptObject`. Behind a URL the server copies
        without a check.
        """
        if isinstance(self._folder, LocalFolder):
            self.path(digest)
        if not self._folder.copy(_name(digest), name, link=link and self.size(digest) >= LINKED):
            raise MissingObject(digest)

    def delete(self, digest: str) -> None:
        """Remove an object. An absent object is no error."""
        self._verified.pop(digest, None)
        self._folder.delete(_name(digest))

    def all(self) -> Iterator[tuple[str, int]]:
        """Digest and size of every object."""
        for name, size in self._folder.sizes("objects"):
            digest = name.removeprefix("objects").replace("/", "")
            if is_digest(digest):
                yield digest, size

    def modified(self, digest: str) -> float:
        """The time of the last put, in seconds since the epoch. Raises :class:`MissingObject`."""
        modified = self._folder.modified(_name(digest))
        if modified is None:
            raise MissingObject(digest)
        return modified

    def quarantined(self) -> list[str]:
        """The digests of the objects whose damaged bytes are in quarantine."""
        return [name.removeprefix("quarantine/") for name in self._folder.names("quarantine")]

    def _quarantine(self, digest: str) -> NoReturn:
        self._folder.move(_name(digest), f"quarantine/{digest}")
        raise CorruptObject(digest)

    @cached_property
    def _cached(self) -> ObjectStore:
        return ObjectStore(cache_folder())

    @cached_property
    def _copies(self) -> Copies:
        return Copies(cache_folder() / "objects", self._cache_gb * 1e9)

    def _local_copy(self, digest: str) -> Path:
        assert not isinstance(self._folder, LocalFolder)
        remote, name, place = self._folder, _name(digest), cache_folder() / _name(digest)
        try:
            path = self._cached.path(digest)
        except (MissingObject, CorruptObject):
            if not self._copies.add(place, lambda file: remote.download(name, file)):
                raise MissingObject(digest) from None
            try:
                path = self._cached.path(digest)
            except CorruptObject:
                self._quarantine(digest)
        self._copies.used(path)
        return path


def _name(digest: str) -> str:
    if not is_digest(digest):
        raise ValueError(f"a digest is 64 lower-case hex digits, got {digest!r}")
    return f"objects/{digest[:2]}/{digest[2:]}"
