"""Folders whose files appear whole and durable, or not at all: on a local disk, or behind an fsspec URL.

Names are relative POSIX paths. Hidden files (a leading dot) are not listed: among them are the temporary ones.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from mmap import mmap
from pathlib import Path
from typing import Any


class StoreError(Exception):
    """The store can't do what was asked of it; the message is one sentence."""


@contextmanager
def one_sentence(doing: str) -> Iterator[None]:
    """Turn an ``OSError`` (no space, no permission, no network) into a :class:`StoreError`."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"can't {doing}: {error.strerror or error}") from error


def read_whole(path: Path | str) -> bytes | None:
    """The file's bytes, or None where there is no such file. Raises :class:`StoreError`."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - three times as fast as through Path
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror or error}") from error


def write_whole(path: Path, data: bytes | mmap, replace: bool = True) -> bool:
    """Write a file so that, whatever happens, it is seen with all of ``data`` or as it was before.

    A temporary file beside it is written, synced and renamed, and the folder is synced. With ``replace=False`` a file
    that is there already stands, and the answer is False. Raises :class:`StoreError`.
    """
    temporary = temporary_for(path)
    with one_sentence(f"write {path}"):
        try:
            make_folder(path.parent)
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            return publish(temporary, path, replace)
        finally:
            with suppress(OSError):
                temporary.unlink()


def temporary_for(path: Path) -> Path:
    """A new hidden name beside ``path``, in the same file system."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def publish(temporary: Path, path: Path, replace: bool = True) -> bool:
    """Give a finished, synced temporary file its name. Raises ``OSError``."""
    if replace:
        temporary.replace(path)
    else:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # A file system without hard links (exFAT, some network mounts).
            if path.exists():
                return False
            temporary.replace(path)
    _sync_folder(path.parent)
    return True


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, durably. Raises ``OSError``."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalFolder:
    """A folder on a local or mounted disk."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def read(self, name: str) -> bytes | None:
        return read_whole(self.path / name)

    def read_many(self, prefix: str, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Those of ``names`` below ``prefix`` that are there. Opening an absent file costs no more than listing it."""
        for name in names:
            data = read_whole(f"{self.path}/{prefix}/{name}")
            if data is not None:
                yield name, data

    def write(self, name: str, data: bytes | mmap, replace: bool = True) -> bool:
        return write_whole(self.path / name, data, replace)

    def refresh(self, name: str, size: int) -> bool:
        """Whether the file is there with this size. Marks it as new, so that a collection of old ones spares it."""
        if self.size(name) != size:
            return False
        try:
            os.utime(self.path / name)
        except FileNotFoundError:  # Removed just now.
            return False
        except OSError:  # A shared store that others own, or one to be read only: nobody collects there meanwhile.
            return True
        return True

    def stat(self, name: str) -> os.stat_result | None:
        with one_sentence(f"read {self.path / name}"):
            try:
                return (self.path / name).stat()
            except FileNotFoundError:
                return None

    def size(self, name: str) -> int | None:
        found = self.stat(name)
        return None if found is None else found.st_size

    def modified(self, name: str) -> float | None:
        """Seconds since the epoch."""
        found = self.stat(name)
        return None if found is None else found.st_mtime

    def names(self, prefix: str = "") -> Iterator[str]:
        """Of all files below ``prefix``, sorted within each folder; none where there is no such folder."""
        with one_sentence(f"list {self.path / prefix}"):
            for folder, folders, files in os.walk(self.path / prefix, onerror=_unless_absent):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                below = Path(folder).relative_to(self.path).as_posix()
                for name in sorted(files):
                    if not name.startswith("."):
                        yield name if below == "." else f"{below}/{name}"

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        for name in self.names(prefix):
            size = self.size(name)
            if size is not None:
                yield name, size

    def move(self, name: str, to: str) -> None:
        with one_sentence(f"move {self.path / name} to {self.path / to}"):
            make_folder((self.path / to).parent)
            with suppress(FileNotFoundError):
                (self.path / name).replace(self.path / to)

    def delete(self, name: str) -> None:
        with one_sentence(f"delete {self.path / name}"):
            (self.path / name).unlink(missing_ok=True)

    def remove_temporaries(self, before: float) -> None:
        """Remove what killed processes left half-written, last changed ``before`` (seconds since the epoch)."""
        with one_sentence(f"clean up {self.path}"):
            for temporary in self.path.rglob(f".*.{'[0-9a-f]' * 32}.tmp"):
                with suppress(FileNotFoundError):
                    if temporary.stat().st_mtime < before:
                        temporary.unlink()


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


class RemoteFolder:
    """The same behind an fsspec URL whose protocol puts whole objects (``s3://``, ``memory://``)."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @cached_property
    def _filesystem(self) -> tuple[Any, str]:
        import fsspec.core

        return fsspec.core.url_to_fs(self.url, use_listings_cache=False)

    def read(self, name: str) -> bytes | None:
        filesystem, root = self._filesystem
        with one_sentence(f"read {self.url}/{name}"):
            try:
                return filesystem.cat_file(f"{root}/{name}")
            except FileNotFoundError:
                return None

    def read_many(self, prefix: str, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        filesystem, root = self._filesystem
        there = {name.removeprefix(f"{prefix}/") for name in self.names(prefix)}
        paths = {f"{root}/{prefix}/{name}": name for name in names if name in there}
        with one_sentence(f"read {self.url}/{prefix}"):
            for path, data in filesystem.cat(list(paths), on_error="omit").items() if paths else ():
                yield paths[path], data

    def write(self, name: str, data: bytes | mmap, replace: bool = True) -> bool:
        filesystem, root = self._filesystem
        with one_sentence(f"write {self.url}/{name}"):
            try:
                filesystem.pipe_file(f"{root}/{name}", bytes(data), mode="overwrite" if replace else "create")
            except FileExistsError:
                return False
        return True

    def refresh(self, name: str, size: int) -> bool:
        return self.size(name) == size

    def size(self, name: str) -> int | None:
        filesystem, root = self._filesystem
        with one_sentence(f"read {self.url}/{name}"):
            try:
                return filesystem.size(f"{root}/{name}")
            except FileNotFoundError:
                return None

    def modified(self, name: str) -> float | None:
        filesystem, root = self._filesystem
        with one_sentence(f"read {self.url}/{name}"):
            try:
                return filesystem.modified(f"{root}/{name}").timestamp()
            except FileNotFoundError:
                return None

    def names(self, prefix: str = "") -> Iterator[str]:
        return (name for name, _ in self.sizes(prefix))

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        filesystem, root = self._filesystem
        with one_sentence(f"list {self.url}/{prefix}"):
            found = filesystem.find(f"{root}/{prefix}".rstrip("/"), detail=True)
        for path, about in found.items():
            yield path.removeprefix(f"{root}/"), about["size"]

    def move(self, name: str, to: str) -> None:
        filesystem, root = self._filesystem
        with one_sentence(f"move {self.url}/{name} to {to}"), suppress(FileNotFoundError):
            filesystem.mv(f"{root}/{name}", f"{root}/{to}")

    def delete(self, name: str) -> None:
        filesystem, root = self._filesystem
        with one_sentence(f"delete {self.url}/{name}"), suppress(FileNotFoundError):
            filesystem.rm_file(f"{root}/{name}")

    def remove_temporaries(self, before: float) -> None:
        """There are none: the protocol puts objects whole."""


Folder = LocalFolder | RemoteFolder


def open_folder(address: str | Path) -> Folder:
    """A path or a ``file://`` URL is a local folder; any other URL goes through fsspec."""
    text = str(address)
    if text.startswith("file://"):
        return LocalFolder(Path(text.removeprefix("file://")))
    return RemoteFolder(text) if "://" in text else LocalFolder(Path(text).expanduser())


def cache_folder() -> Path:
    """This user's folder on this machine for what a remote store needs locally; may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ipa"
