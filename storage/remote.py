"""Folders behind an fsspec URL whose protocol puts whole objects (``s3://``, ``memory://``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from mmap import mmap
from typing import Any, TypeVar

from storage.errors import StoreError

Value = TypeVar("Value")
Found = TypeVar("Found")

_AT_ONCE = 16
"""Requests of :meth:`RemoteFolder.each`."""
_FEW = 32
"""Up to here asking for each costs less than a listing."""
_FRESH_SECONDS = 900.0
"""Far below the hour for which a collection spares an object."""
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")


class RemoteFolder:
    """The same as :class:`storage.folders.LocalFolder`, behind a URL.

    It holds the URL alone: passed to another process, or forked, it connects anew, and credentials stay with fsspec.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def address(self, name: str = "") -> str:
        """URL of a name."""
        return f"{self.url}/{name}".rstrip("/")

    def below(self, name: str) -> RemoteFolder:
        return RemoteFolder(self.address(name))

    def read(self, name: str) -> bytes | None:
        with self._trying("read", name) as (filesystem, path):
            try:
                return filesystem.cat_file(path)
            except FileNotFoundError:
                return None

    def read_many(self, prefix: str, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        wanted = list(names)
        if len(wanted) > _FEW:
            there = set(self.names(prefix))
            wanted = [name for name in wanted if f"{prefix}/{name}" in there]
        if not wanted:
            return
        with self._trying("read", prefix) as (filesystem, path):
            # As ranges: for whole files s3fs would ask for each one's size first.
            found = filesystem.cat_ranges([f"{path}/{name}" for name in wanted], 0, None, on_error="return")
            for data in found:
                if isinstance(data, Exception) and not isinstance(data, FileNotFoundError):
                    raise data
        yield from ((name, data) for name, data in zip(wanted, found, strict=True) if isinstance(data, bytes))

    def write(self, name: str, data: bytes | mmap, replace: bool = True) -> bool:
        with self._trying("write", name) as (filesystem, path):
            if not replace:
                return _create(filesystem, path, bytes(data))
            filesystem.pipe_file(path, bytes(data))
        return True

    def refresh(self, name: str, size: int) -> bool:
        """Whether the file is there with this size and new. One that a collection may take for old has to be written
        again: its time can't be set."""
        about = self._about(name)
        modified = _modified(about) if about and about["size"] == size else None
        return modified is not None and time.time() - modified < _FRESH_SECONDS

    def size(self, name: str) -> int | None:
        about = self._about(name)
        return None if about is None else about["size"]

    def modified(self, name: str) -> float | None:
        """Seconds since the epoch; 0 where the file system keeps no times."""
        about = self._about(name)
        return None if about is None else _modified(about) or 0.0

    def names(self, prefix: str = "") -> Iterator[str]:
        return (name for name, _ in self.sizes(prefix))

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        with self._trying("list", prefix) as (filesystem, path):
            found = filesystem.find(path, detail=True)
        start = path.removesuffix(prefix)
        for found_path, about in found.items():
            if not found_path.endswith("/"):  # What consoles put for an empty folder.
                yield found_path.removeprefix(start).lstrip("/"), about["size"]

    def folders(self, prefix: str = "") -> list[str]:
        """Names of the folders right below ``prefix`` that hold files, sorted; by one listing that goes no deeper."""
        with self._trying("list", prefix) as (filesystem, path):
            try:
                found = filesystem.ls(path, detail=True)
            except FileNotFoundError:
                return []
        names = [about["name"].rstrip("/").rpartition("/")[2] for about in found if about["type"] == "directory"]
        return sorted(name for name in names if not name.startswith("."))

    def copy(self, name: str, to: str, *, link: bool = False) -> bool:
        """Copy a file within the folder, on the server; False where there is none. There are no links here."""
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

    def remove_temporaries(self, before: float) -> None:
        """There are none: the protocol puts objects whole."""

    def each(self, function: Callable[[Value], Found], values: Iterable[Value]) -> Iterator[Found]:
        """``function`` of each value, in their order; several at once, as each waits for the network."""
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
        """File system and path of a name; whatever goes wrong inside is one sentence."""
        try:
            import fsspec.core

            # Asked for each time: fsspec keeps one per process, and a forked child must not use its parent's.
            filesystem, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
            yield filesystem, f"{root}/{name}".rstrip("/")
        except Exception as error:  # Each protocol's library has errors of its own, and few are an OSError.
            raise StoreError(f"can't {doing} {self.address(name)}: {_reason(error)}") from error


def _create(filesystem: Any, path: str, data: bytes) -> bool:
    """Write a file that must not be there yet; False where it is. Raises ``OSError``."""
    for pause in (0.1, 0.3, 1.0, 3.0, 0.0):
        try:
            filesystem.pipe_file(path, data, mode="create")
            return True
        except FileExistsError:
            return False
        except OSError as error:
            answer = _http_status(error)
            if answer == 412:  # s3fs knows Amazon's form of this answer only.
                return False
            if answer != 409 or not pause:
                raise
            time.sleep(pause)  # Somebody else is writing it just now, and may yet fail.
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
