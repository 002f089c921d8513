"""Digests: the lower-case hex blake3 of bytes, of files (with a stat cache) and of configs."""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from blake3 import blake3

from storage.folders import Folder, LocalFolder

_THREADS = max(1, min(8, os.cpu_count() or 1))
_LARGE = 16 * 2**20  # From here on the threads earn more than they cost to start.
_RACY_NANOSECONDS = 2 * 10**9


def is_digest(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def digest_bytes(data: bytes | mmap.mmap) -> str:
    return blake3(data, max_threads=_threads(len(data))).hexdigest()


def digest_file(path: Path) -> str:
    """Digest of a file's bytes, read anew. Raises ``OSError``."""
    return blake3(max_threads=_threads(path.stat().st_size)).update_mmap(path).hexdigest()


def digest_config(value: Any) -> str:
    """Digest of a JSON-able value, whatever the order of its mappings. Raises ``ValueError``."""
    return digest_bytes(canonical_json(value))


def canonical_json(value: Any) -> bytes:
    """The one way to write a JSON-able value: sorted keys, no spaces, UTF-8, ``1`` and ``1.0`` kept apart.

    Raises ``ValueError`` that names the place of a value that JSON has no word for (NaN, infinity, a path, a set, ...).
    """
    return json_bytes(plain_json(value, "the value"))


def json_bytes(plain: Any) -> bytes:
    """:func:`canonical_json` of what is known to be plain JSON."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def plain_json(value: Any, name: str) -> Any:
    """A copy of dict, list, str, int, float, bool and None only. Raises ``ValueError`` that starts with ``name``."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        copy = json.loads(text)
        if copy == value and text.encode():
            return copy
    except (TypeError, ValueError):
        pass  # The slow way below says where.
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
    # Never blake3's AUTO: its one pool for the whole process makes a forked child wait for ever.
    return _THREADS if size >= _LARGE else 1


class FileDigests:
    """Digests of files, folders and URLs; what was hashed before and is the same since is not read again.

    Files are remembered in ``address_of_cache_file`` by their stat, URLs in ``urls.json`` of the folder ``urls`` by the
    version that their listing tells. Both only save time.
    """

    def __init__(self, address_of_cache_file: Path | None, urls: Folder | None = None) -> None:
        beside = None if address_of_cache_file is None else LocalFolder(address_of_cache_file.parent)
        self._files = _Memory(beside, "" if address_of_cache_file is None else address_of_cache_file.name)
        self._urls = _Memory(urls, "urls.json")

    def file(self, path: Path | str) -> str:
        """Digest of the bytes; name and times play no part. Links are followed. Raises ``OSError``."""
        real = Path(os.path.realpath(path))
        before = _identity(real)
        known = self._files.get(str(real), before)
        if known is not None:
            return known
        now = time.time_ns()
        digest = digest_file(real)
        # A file that was written a moment ago may be written again without any change of its times.
        if _identity(real) == before and real.stat().st_mtime_ns < now - _RACY_NANOSECONDS:
            self._files.put(str(real), before, digest)
        return digest

    def tree(self, folder: Path | str) -> str:
        """Digest of the files below a folder: relative names and bytes; hidden ones (``.git``, ``.cache``) left out.

        Links to files and folders are followed. Raises ``OSError``, and ``ValueError`` where a link leads in a circle.
        """
        return digest_config(sorted([name, self.file(path)] for name, path in _files_below(Path(folder))))

    def url(self, url: str, version: str) -> str | None:
        """Digest that was remembered for this version of what lies behind the URL; None where none was."""
        return self._urls.get(url, [version])

    def remember_url(self, url: str, version: str, digest: str) -> None:
        self._urls.put(url, [version], digest)

    def save(self) -> None:
        """Write what is new, keeping what other processes have saved meanwhile."""
        self._files.save()
        self._urls.save()


class _Memory:
    """Name -> identity and digest, in one JSON file. Several processes may share it: the last to save wins, whole."""

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
        try:
            known = json.loads(data or b"{}")
        except ValueError:
            return {}
        return known if isinstance(known, dict) else {}


def _identity(path: Path) -> list[int]:
    stat = path.stat()
    # ctime too: copying with `cp -p` over a file can leave size, mtime and inode as they were.
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
