"""Digests: the lower-case hex blake3 of bytes, of files (with a stat cache) and of configs."""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from blake3 import blake3

from storage.errors import one_sentence
from storage.folders import Folder, LocalFolder

_THREADS = max(1, min(8, os.cpu_count() or 1))
_LARGE = 16 * 2**20  # From this size on, the threads save more time than their start costs.
_RACY_NANOSECONDS = 2 * 10**9


def is_digest(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def digest_bytes(data: bytes | mmap.mmap) -> str:
    return blake3(data, max_threads=_threads(len(data))).hexdigest()


def digest_file(path: Path) -> str:
    """The digest of a file's bytes, which are read. Raises ``OSError``."""
    return blake3(max_threads=_threads(path.stat().st_size)).update_mmap(path).hexdigest()


def digest_in(folder: Folder, name: str) -> str | None:
    """The digest of a file in a folder, which is read piece by piece; None where there is no such file. Raises
    :class:`StoreError`."""
    if isinstance(folder, LocalFolder):
        with one_sentence(f"read {folder.address(name)}"):
            try:
                return digest_file(folder.path / name)
            except FileNotFoundError:
                return None
    found = blake3()
    pieces = folder.pieces(name)
    if pieces is None:
        return None
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()


def digest_config(value: Any) -> str:
    """The digest of a JSON-able value. The order of mappings plays no part. Raises ``ValueError``."""
    return digest_bytes(canonical_json(value))


def canonical_json(value: Any) -> bytes:
    """A JSON-able value as bytes in one form only: sorted keys, no spaces, UTF-8, ``1`` and ``1.0`` kept apart.

    Raises ``ValueError`` where JSON has no word for a value (NaN, infinity, a path, a set, ...). The message names its
    place.
    """
    return json_bytes(plain_json(value, "the value"))


def json_bytes(plain: Any) -> bytes:
    """The same as :func:`canonical_json`, for a value that the caller knows to be plain JSON."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def plain_json(value: Any, name: str) -> Any:
    """A copy of dict, list, str, int, float, bool and None only. Raises ``ValueError`` that starts with ``name``."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        copy = json.loads(text)
        if copy == value and text.encode():
            return copy
    except (TypeError, ValueError):
        pass  # The slow way below finds the place.
    return _plain(value, name)


def _plain(value: Any, name: str) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(f"{name} is no Unicode text: {value!r}")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, which JSON has no word for")
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{name} has the key {key!r}; keys must be text")
        return {_plain(key, name): _plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}[{index}]") for index, item in enumerate(value)]
    raise ValueError(f"{name} is a {type(value).__name__}, which JSON has no word for: {value!r}")


def _threads(size: int) -> int:
    # Never use AUTO of blake3: its pool is shared by the whole process, and a forked child would wait for ever.
    return _THREADS if size >= _LARGE else 1


class FileDigests:
    """Digests of files, folders and URLs. An unchanged file is read once only.

    ``address_of_cache_file`` remembers files by their stat. ``urls.json`` in the folder ``urls`` remembers URLs by the
    version in their listing; ``looks.json`` remembers what was read in files, by their digest. All only save time.
    """

    def __init__(self, address_of_cache_file: Path | None, urls: Folder | None = None) -> None:
        beside = None if address_of_cache_file is None else LocalFolder(address_of_cache_file.parent)
        self._files = _Memory(beside, "" if address_of_cache_file is None else address_of_cache_file.name)
        self._urls = _Memory(urls, "urls.json")
        self._looks = _Memory(urls, "looks.json")

    def file(self, path: Path | str) -> str:
        """The digest of the bytes. Name and times play no part. Links are followed. Raises ``OSError``."""
        real = Path(os.path.realpath(path))
        before = _identity(real)
        known = self._files.get(str(real), before)
        if known is not None:
            return known
        now = time.time_ns()
        digest = digest_file(real)
        # The times of a file may stay the same when it is written twice within a moment.
        if _identity(real) == before and real.stat().st_mtime_ns < now - _RACY_NANOSECONDS:
            self._files.put(str(real), before, digest)
        return digest

    def knows(self, path: Path | str) -> bool:
        """Whether :meth:`file` would answer without reading the file. Raises ``OSError``."""
        real = Path(os.path.realpath(path))
        return self._files.get(str(real), _identity(real)) is not None

    def tree(self, folder: Path | str, counts: Callable[[str], bool] = lambda name: True) -> str:
        """The digest of the files below a folder whose relative name ``counts``: their names and bytes, without hidden
        files and folders.

        Links to files and folders are followed. Raises ``OSError``, and ``ValueError`` where a link leads in a circle.
        """
        found = ((name, path) for name, path in _files_below(Path(folder)) if counts(name))
        return digest_config(sorted([name, self.file(path)] for name, path in found))

    def url(self, url: str, version: str) -> str | None:
        """The remembered digest for this version of the URL, or None."""
        return self._urls.get(url, [version])

    def remember_url(self, url: str, version: str, digest: str) -> None:
        self._urls.put(url, [version], digest)

    def look(self, digest: str, version: int) -> str | None:
        """The remembered text about a file's content, as this version of its reader found it, or None."""
        return self._looks.get(digest, [version])

    def remember_look(self, digest: str, version: int, text: str) -> None:
        self._looks.put(digest, [version], text)

    def save(self) -> None:
        """Write the new digests. Digests that other processes saved meanwhile are kept."""
        self._looks.save()
        self._files.save()
        self._urls.save()


class _Memory:
    """Name -> identity and digest, in one JSON file. Several processes may share it; the last one to save wins."""

    def __init__(self, folder: Folder | None, name: str) -> None:
        self._folder = folder
        self._name = name
        self._changed: dict[str, list[Any]] = {}

    @cached_property
    def _known(self) -> dict[str, list[Any]]:
        return self._load()

    def get(self, name: str, identity: list[Any]) -> str | None:
        entry = self._known.get(name)
        return entry[-1] if entry is not None and entry[:-1] == identity else None

    def put(self, name: str, identity: list[Any], digest: str) -> None:
        self._known[name] = self._changed[name] = [*identity, digest]

    def save(self) -> None:
        if self._folder is not None and self._changed:
            self._known = self._load() | self._changed
            self._folder.write(self._name, json_bytes(self._known))
            self._changed = {}

    def _load(self) -> dict[str, list[Any]]:
        data = None if self._folder is None else self._folder.read(self._name)
        return remembered(data or b"{}") or {}


def remembered(data: bytes) -> dict[str, list[Any]] | None:
    """The entries of a file of :class:`FileDigests`, without those of another form; None for a damaged file. An entry
    ends with a digest, or with what was read in the file of the digest that names it."""
    try:
        known = json.loads(data)
    except ValueError:
        return None
    if not isinstance(known, dict):
        return None
    return {
        name: entry for name, entry in known.items() if isinstance(entry, list) and entry and _is_known(name, entry)
    }


def _is_known(name: str, entry: list[Any]) -> bool:
    return is_digest(entry[-1]) or (is_digest(name) and isinstance(entry[-1], str))


def _identity(path: Path) -> list[int]:
    stat = path.stat()
    # ctime is needed too: `cp -p` over a file can keep its size, mtime and inode.
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _files_below(folder: Path, prefix: str = "", above: tuple[str, ...] = ()) -> Iterator[tuple[str, Path]]:
    real = os.path.realpath(folder)
    if real in above:
        raise ValueError(f"{folder} is a link to a folder that it lies in")
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files_below(entry, f"{prefix}{entry.name}/", (*above, real))
        else:
            yield prefix + entry.name, entry
