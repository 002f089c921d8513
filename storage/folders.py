"""Folders on a local disk or behind an fsspec URL. Their files appear whole and durable, or not at all.

Names are relative POSIX paths. Hidden files (a leading dot) are not listed. Temporary files are hidden.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias, TypeVar

from storage.errors import StoreError, one_sentence

if TYPE_CHECKING:
    from storage.remote import RemoteFolder

Value = TypeVar("Value")
Found = TypeVar("Found")


def read_whole(path: Path | str) -> bytes | None:
    """The bytes of a file, or None where there is no such file. Raises :class:`StoreError`."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - three times as fast as through Path
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror or error}") from error


def write_whole(path: Path, data: bytes | mmap, replace: bool = True) -> bool:
    """Write a file. Readers see it with all of ``data`` or as it was before, also after a crash.

    A temporary file beside it is written, synced and renamed, and the folder is synced. With ``replace=False`` an
    existing file stands, and the answer is False. Raises :class:`StoreError`.
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
    """Give a finished, synced temporary file its name; False where the name is taken. Raises ``OSError``."""
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
            # This file system has no hard links (exFAT, some network mounts).
            with _alone_in(path.parent):
                if path.exists():
                    return False
                temporary.replace(path)
    _sync_folder(path.parent)
    return True


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder: of the processes that create files there, one at a time looks and renames. The lock
    goes with its process. Raises ``OSError`` where a file system has neither hard links nor locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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

    has_links: ClassVar = True
    """A file can have several names and take its space once."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def address(self, name: str = "") -> str:
        """Absolute path of a name, as text."""
        return str(self.path / name)

    def below(self, name: str) -> LocalFolder:
        return LocalFolder(self.path / name)

    def read(self, name: str) -> bytes | None:
        return read_whole(self.path / name)

    def read_many(self, prefix: str, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """The existing files of ``names`` below ``prefix``. Opening an absent file costs no more than a listing."""
        for name in names:
            data = read_whole(f"{self.path}/{prefix}/{name}")
            if data is not None:
                yield name, data

    def write(self, name: str, data: bytes | mmap, replace: bool = True) -> bool:
        return write_whole(self.path / name, data, replace)

    def refresh(self, name: str, size: int) -> bool:
        """Whether the file exists with this size. It is marked as new, so that a collection of old files spares it."""
        if self.size(name) != size:
            return False
        try:
            os.utime(self.path / name)
        except FileNotFoundError:  # Another process removed it just now.
            return False
        except OSError:  # The store belongs to others or is read-only: nobody collects there meanwhile.
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
        """The names of all files below ``prefix``, sorted within each folder. An absent folder has none."""
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

    def folders(self, prefix: str = "") -> list[str]:
        """Names of the folders right below ``prefix`` that hold files, sorted."""
        with one_sentence(f"list {self.path / prefix}"):
            try:
                found = sorted(entry.name for entry in os.scandir(self.path / prefix) if entry.is_dir())
            except (FileNotFoundError, NotADirectoryError):
                return []
        below = self.below(prefix)
        return [name for name in found if not name.startswith(".") and next(below.names(name), None) is not None]

    def copy(self, name: str, to: str, *, link: bool = False) -> bool:
        """Copy a file within the folder; False where there is none. ``link`` takes the space once where the disk can:
        the two share their blocks until one is written, or they are one file, which nobody may write into."""
        temporary = temporary_for(self.path / to)
        with one_sentence(f"copy {self.path / name} to {self.path / to}"):
            make_folder(temporary.parent)
            try:
                _link_or_copy(self.path / name, temporary, link)
                return publish(temporary, self.path / to)
            except FileNotFoundError:
                return False
            finally:
                temporary.unlink(missing_ok=True)

    def move(self, name: str, to: str) -> None:
        """Move a file. It counts as new from then on. An absent file is no error."""
        with one_sentence(f"move {self.path / name} to {self.path / to}"):
            make_folder((self.path / to).parent)
            with suppress(FileNotFoundError):
                (self.path / name).replace(self.path / to)
                with suppress(PermissionError):  # The file belongs to another user.
                    os.utime(self.path / to)

    def delete(self, name: str) -> None:
        with one_sentence(f"delete {self.path / name}"):
            (self.path / name).unlink(missing_ok=True)

    def temporaries(self, before: float) -> Iterator[str]:
        """The names of the half-written files that nobody has changed since ``before`` (seconds since the epoch)."""
        with one_sentence(f"list {self.path}"):
            for temporary in sorted(self.path.rglob(f".*.{'[0-9a-f]' * 32}.tmp")):
                with suppress(FileNotFoundError):
                    if temporary.stat().st_mtime < before:
                        yield temporary.relative_to(self.path).as_posix()

    def freed(self, names: Iterable[str]) -> int:
        """The bytes that become free when these files go. A file that has another name, which stays, frees none."""
        found: dict[tuple[int, int], tuple[os.stat_result, int]] = {}
        for name in names:
            stat = self.stat(name)
            if stat is not None:
                place = stat.st_dev, stat.st_ino
                found[place] = stat, found.get(place, (stat, 0))[1] + 1
        return sum(stat.st_size for stat, gone in found.values() if gone == stat.st_nlink)

    def remove_empty(self, prefix: str) -> None:
        """Remove a folder and those below it, unless a file is in it. An absent folder is no error."""
        for folder, _, _ in os.walk(self.path / prefix, topdown=False):
            with suppress(OSError):  # A file is in it.
                Path(folder).rmdir()

    def each(self, function: Callable[[Value], Found], values: Iterable[Value]) -> Iterator[Found]:
        """The results of ``function`` for the values, in their order."""
        return map(function, values)


def _link_or_copy(source: Path, target: Path, link: bool) -> None:
    with source.open("rb") as original:
        if link and _share_blocks(original.fileno(), target):
            return
        if link:
            try:
                source.chmod(0o444)  # An editor that saves into the file would change the other one too.
                target.hardlink_to(source)
                return
            except FileNotFoundError:
                raise
            except OSError:  # The file is another user's, the target on another file system, or there are no links.
                pass
        with target.open("xb") as copy:
            shutil.copyfileobj(original, copy, 2**20)
            copy.flush()
            os.fsync(copy.fileno())


_FICLONE: Final = 0x40049409
"""Number of the request by which btrfs, xfs and others copy a file without its blocks (Linux, ioctl_ficlone)."""


def _share_blocks(original: int, target: Path) -> bool:
    """Make a copy that shares the blocks of the original until one of them is written; False where the disk can't."""
    with target.open("xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, original)
            os.fsync(copy.fileno())
            return True
        except OSError:
            target.unlink()
            return False


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


Folder: TypeAlias = "LocalFolder | RemoteFolder"


def open_folder(address: str | Path) -> Folder:
    """The folder at an address. A path or a ``file://`` URL is a local folder. Any other URL goes through fsspec.

    Raises :class:`StoreError` for a URL that names no bucket, and for one with a password.
    """
    protocol, separator, place = str(address).partition("://")
    if not separator:
        return LocalFolder(Path(address).expanduser())
    if protocol == "file":
        return LocalFolder(Path(place))
    if has_credentials(str(address)):
        raise StoreError(
            f"the store's address {protocol}://...@{place.rpartition('@')[2]} holds a password, which would lie in "
            "every record; leave it out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not place.strip("/"):
        raise StoreError(f"{address} names no bucket: write {protocol}://bucket/folder")
    from storage.remote import RemoteFolder

    return RemoteFolder(str(address))


def has_credentials(url: str) -> bool:
    """Whether a URL says a user or password before its host or bucket. A secret key of Amazon may hold a ``/``."""
    host = url.partition("://")[2].partition("/")[0]
    return "@" in host or (":" in host and "@" in url and not url.startswith("http"))


def cache_folder() -> Path:
    """This user's folder on this machine for the local files of remote stores. It may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ipa"
