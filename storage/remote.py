"""Folders behind an fsspec URL. Its protocol puts whole objects (``s3://``, ``memory://``)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from mmap import mmap
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from storage import bundle
from storage.errors import StoreError

Value = TypeVar("Value")
Found = TypeVar("Found")

_AT_ONCE = 16
"""Number of requests of :meth:`RemoteFolder.each` at the same time."""
_FEW = 32
"""Up to this number of files, one request per file costs less than a listing."""
_PIECE = 32 * 2**20
"""Bytes of a file that are in memory at once."""
_PART = 16 * 2**20
"""Bytes of a part of an upload."""
_FRESH_SECONDS = 900.0
"""This is far below the hour for which a collection spares an object."""
# botocore asks five times by default, which one of some thousand requests at 20 % of errors does not survive, nor a
# server that starts again.
os.environ.setdefault("AWS_MAX_ATTEMPTS", "8")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")


class RemoteFolder:
    """The same as :class:`storage.folders.LocalFolder`, behind a URL.

    It holds the URL only. In another process, forked or not, it connects anew. Credentials stay with fsspec.
    """

    has_links: ClassVar = False

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def address(self, name: str = "") -> str:
        """The URL of a name."""
        return f"{self.url}/{name}".rstrip("/")

    def below(self, name: str) -> RemoteFolder:
        return RemoteFolder(self.address(name))

    def read(self, name: str) -> bytes | None:
        with self._trying("read", name) as (filesystem, path):
            return _content(filesystem.cat_ranges([path], 0, None, on_error="return")[0])  # See _read_each.

    def pieces(self, name: str) -> Iterator[bytes] | None:
        """The bytes of a file piece by piece; None where there is no such file."""
        with self._trying("read", name) as (filesystem, path):
            try:
                file = filesystem.open(path, "rb", block_size=_PIECE)
            except FileNotFoundError:
                return None
        return self._pieces(name, file)

    def _pieces(self, name: str, file: Any) -> Iterator[bytes]:
        with file, self._trying("read", name):
            while piece := file.read(_PIECE):
                yield piece

    def read_many(self, prefix: str, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """The existing files of ``names`` below ``prefix``. Many cost a listing and the folder's bundle. Those that it
        lacks cost a request each, and the bundle is written again with them."""
        wanted = list(names)
        if len(wanted) <= _FEW:
            yield from self._read_each(prefix, wanted)
            return
        versions = self._versions(prefix)
        wanted = [name for name in wanted if name in versions]
        known = {
            name: (version, data)
            for name, (version, data) in (bundle.unpacked(self.read(bundle.place(prefix)) or b"") or {}).items()
            if versions.get(name) == version
        }
        yield from ((name, known[name][1]) for name in wanted if name in known)
        new = {}
        for name, data in self._read_each(prefix, [name for name in wanted if name not in known]):
            yield name, data
            if version := versions[name]:
                new[name] = version, data
        if len(new) > _FEW:
            with suppress(StoreError):  # It only saves time, and this user may not be allowed to write.
                self.write(bundle.place(prefix), bundle.packed({**known, **new}))

    def _versions(self, prefix: str) -> dict[str, str]:
        """The version of each file below ``prefix``, by its name there; "" where the server tells none."""
        with self._trying("list", prefix) as (filesystem, path):
            found = filesystem.find(path, detail=True)
        return {
            name.removeprefix(path).lstrip("/"): str(about.get("ETag") or about.get("etag") or "")
            for name, about in found.items()
        }

    def _read_each(self, prefix: str, wanted: list[str]) -> Iterator[tuple[str, bytes]]:
        if not wanted:
            return
        with self._trying("read", prefix) as (filesystem, path):
            # The files are asked for as ranges: s3fs would ask for the size of a whole file first.
            found = filesystem.cat_ranges([f"{path}/{name}" for name in wanted], 0, None, on_error="return")
            contents = [_content(one) for one in found]
        yield from ((name, data) for name, data in zip(wanted, contents, strict=True) if data is not None)

    def write(self, name: str, data: bytes | mmap, replace: bool = True) -> bool:
        with self._trying("write", name) as (filesystem, path):
            if not replace:
                # Where an answer was lost, the file is there because the first try wrote it.
                return _create(filesystem, path, bytes(data)) or filesystem.cat_file(path) == data
            filesystem.pipe_file(path, bytes(data))
        return True

    def upload(self, name: str, file: Path) -> None:
        """Write the bytes of a local file; a large one in parts, of which a few are in memory."""
        with self._trying("write", name) as (filesystem, path):
            parts = {"chunksize": _PART, "max_concurrency": 4} if "s3" in filesystem.protocol else {}
            filesystem.put_file(str(file), path, **parts)

    def download(self, name: str, file: Path) -> bool:
        """Write a file's bytes into a local one; False where there is no such file."""
        with self._trying("read", name) as (filesystem, path):
            try:
                filesystem.get_file(path, str(file))
            except FileNotFoundError:
                return False
        return True

    def refresh(self, name: str, size: int) -> bool:
        """Whether the file exists with this size and is new.

        An older file must be written again: a collection may remove it, and its time can't be set.
        """
        about = self._about(name)
        modified = _modified(about) if about and about["size"] == size else None
        return modified is not None and time.time() - modified < _FRESH_SECONDS

    def size(self, name: str) -> int | None:
        about = self._about(name)
        return None if about is None else about["size"]

    def modified(self, name: str) -> float | None:
        """Seconds since the epoch. The answer is 0 where the file system keeps no times."""
        about = self._about(name)
        return None if about is None else _modified(about) or 0.0

    def names(self, prefix: str = "") -> Iterator[str]:
        return (name for name, _ in self.sizes(prefix))

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        with self._trying("list", prefix) as (filesystem, path):
            found = filesystem.find(path, detail=True)
        start = path.removesuffix(prefix)
        for found_path, about in found.items():
            if not found_path.endswith("/"):  # Some consoles put such a name for an empty folder.
                yield found_path.removeprefix(start).lstrip("/"), about["size"]

    def folders(self, prefix: str = "") -> list[str]:
        """Names of the folders right below ``prefix`` that hold files, sorted. One listing of this level is enough."""
        with self._trying("list", prefix) as (filesystem, path):
            try:
                found = filesystem.ls(path, detail=True)
            except FileNotFoundError:
                return []
        names = [about["name"].rstrip("/").rpartition("/")[2] for about in found if about["type"] == "directory"]
        return sorted(name for name in names if not name.startswith("."))

    def copy(self, name: str, to: str, *, link: bool = False) -> bool:
        """Copy a file within the folder on the server; False where there is none. ``link`` has no effect here."""
        with self._trying("copy", name) as (filesystem, path):
            try:
                filesystem.cp_file(path, f"{path.removesuffix(name)}{to}")
            except FileNotFoundError:
                return False
        return True

    def move(self, name: str, to: str) -> None:
        if self.copy(name, to):
            self.delete(name)

    def delete(self, name: str) -> None:
        with self._trying("delete", name) as (filesystem, path), suppress(FileNotFoundError):
            filesystem.rm_file(path)

    def temporaries(self, before: float) -> Iterator[str]:
        """None: the protocol puts whole objects."""
        return iter(())

    def freed(self, names: Iterable[str]) -> int:
        """The bytes that become free when these files go."""
        return sum(size or 0 for size in self.each(self.size, names))

    def remove_empty(self, prefix: str) -> None:
        """Do nothing: a folder without files does not exist."""

    def each(self, function: Callable[[Value], Found], values: Iterable[Value]) -> Iterator[Found]:
        """The results of ``function`` for the values, in their order. Several calls wait for the network at once."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(function, values)

    def _about(self, name: str) -> dict[str, Any] | None:
        with self._trying("read", name) as (filesystem, path):
            try:
                about: dict[str, Any] = filesystem.info(path)
            except FileNotFoundError:
                return None
        return about if about["type"] == "file" else None

    @contextmanager
    def _trying(self, doing: str, name: str) -> Iterator[tuple[Any, str]]:
        """The file system and the path of a name. Every error inside becomes one sentence."""
        try:
            import fsspec.core

            # This asks fsspec each time: it keeps one file system per process, and a forked child needs its own.
            filesystem, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
            yield filesystem, f"{root}/{name}".rstrip("/")
        except Exception as error:  # Each protocol's library has its own errors, and few are an OSError.
            raise StoreError(f"can't {doing} {self.address(name)}: {_reason(error)}") from error


def _content(found: bytes | Exception) -> bytes | None:
    """The bytes of a file that was asked for as a range; None where there is none. Raises other errors."""
    if isinstance(found, FileNotFoundError):
        return None
    if isinstance(found, OSError) and _http_status(found) == 416:  # An empty file has no range.
        return b""
    if isinstance(found, Exception):
        raise found
    return bytes(found)


def _create(filesystem: Any, path: str, data: bytes) -> bool:
    """Create a file; False where it exists already. Raises ``OSError``."""
    for pause in (0.1, 0.3, 1.0, 3.0, 0.0):
        try:
            filesystem.pipe_file(path, data, mode="create")
            return True
        except FileExistsError:
            return False
        except OSError as error:
            answer = _http_status(error)
            if answer == 412:  # s3fs knows only Amazon's form of this answer.
                return False
            if answer != 409 or not pause:
                raise
            time.sleep(pause)  # Another process writes the file just now, and may still fail.
    raise AssertionError("the last pause is 0")


def _http_status(error: OSError) -> int | None:
    response = getattr(error.__cause__, "response", None) or {}
    status: int | None = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _modified(about: dict[str, Any]) -> float | None:
    found = next((about[name] for name in _TIMES if about.get(name)), None)
    return found.timestamp() if isinstance(found, datetime) else None


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
