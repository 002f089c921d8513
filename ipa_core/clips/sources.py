"""Finds the videos of a run and reads the table about them. Both may lie behind fsspec URLs such as ``s3://``."""

from __future__ import annotations

import glob
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final, get_args

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ipa_core.config import ConfigError
from ipa_core.records import Split
from ipa_core.scratch import scratch_folder

VIDEO_SUFFIXES: Final = frozenset(
    {".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)
_COLUMNS: Final = ("file", "prompt", "group", "split")
_VERSIONS: Final = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated", "created")


@dataclass(frozen=True)
class Video:
    """A driving video: a file, or the content of a URL."""

    address: str
    """Path or URL."""
    version: str | None = None
    """Size and ETag (or time) of a URL's content. None for files, and where the server has neither."""

    @property
    def name(self) -> str:
        return PurePosixPath(self.address).name

    @property
    def folder(self) -> str:
        """Name of the folder that holds it."""
        return PurePosixPath(self.address).parent.name


def is_url(address: str) -> bool:
    return "://" in address and not address.startswith("file://")


def find_videos(sources: Sequence[str]) -> list[Video]:
    """Find the videos of ``sources``: files, folders (read recursively), globs (``**`` for any depth), or their URLs.
    Folders and globs give only files with a video's suffix, and no hidden ones. A file that is named itself is always
    taken. The result is sorted, with each real file once. Raises :class:`ConfigError` for a source without a video."""
    found: dict[str, Video] = {}
    for source in sources:
        videos = _behind(source) if is_url(source) else _files(source.removeprefix("file://"))
        if not videos:
            raise ConfigError(f"clips.sources: there is no video at '{source}'")
        for video in videos:
            found.setdefault(video.address if is_url(video.address) else str(Path(video.address).resolve()), video)
    return sorted(found.values(), key=lambda video: PurePosixPath(video.address))


def _files(source: str) -> list[Video]:
    return [Video(str(path)) for path in _paths(Path(source).expanduser())]


def _paths(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from filter(_is_video, path.rglob("*"))
    else:
        for match in map(Path, glob.glob(str(path), recursive=True)):  # noqa: PTH207 - Path.glob wants a relative one
            yield from filter(_is_video, match.rglob("*") if match.is_dir() else [match])


def _is_video(path: Path) -> bool:
    return _has_a_videos_name(path) and path.is_file()


def _has_a_videos_name(path: Path | PurePosixPath) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def _behind(url: str) -> list[Video]:
    with _reaching("clips.sources", url) as (filesystem, path):
        about = _info(filesystem, path)
        if about is not None and about["type"] == "file":
            return [_video(filesystem, about)]
        # A path that exists is no glob, whatever its characters.
        if about is None and glob.has_magic(path):
            found = _matching(filesystem, path)
        else:
            found = list(filesystem.find(path, detail=True).values())
    return [_video(filesystem, about) for about in found if _is_listed(about)]


def _matching(filesystem: Any, pattern: str) -> list[dict[str, Any]]:
    """Return the files whose own path, or a folder's above them, matches. It lists once and never calls fsspec's glob,
    which leaves out paths that it can't read."""
    from fsspec.utils import glob_translate

    place = re.split(r"[*?[]", pattern)[0].rpartition("/")[0]
    matches = re.compile(glob_translate(pattern)).match
    return [
        about
        for name, about in filesystem.find(place, detail=True).items()
        if matches(name) or any(matches(str(above)) for above in PurePosixPath(name).parents)
    ]


def _is_listed(about: dict[str, Any]) -> bool:
    return about["type"] == "file" and _has_a_videos_name(PurePosixPath(about["name"]))


def _video(filesystem: Any, about: dict[str, Any]) -> Video:
    version = next((str(about[name]) for name in _VERSIONS if about.get(name)), None)
    return Video(filesystem.unstrip_protocol(about["name"]), version and f"{about['size']} {version}")


def _info(filesystem: Any, path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = filesystem.info(path)
    except FileNotFoundError:
        return None
    return found


def version_of(url: str) -> str | None:
    """Return :attr:`Video.version` of the URL's content now. Raises :class:`ConfigError` when it can't be read."""
    with _reaching("clips.sources", url) as (filesystem, path):
        return _video(filesystem, filesystem.info(path)).version


@contextmanager
def local_file(address: str) -> Iterator[Path]:
    """Yield the file itself, or a temporary copy of the URL's content. Raises :class:`ConfigError` if copying fails."""
    if not is_url(address):
        yield Path(address)
        return
    with scratch_folder() as folder:
        copy = folder / PurePosixPath(address).name
        with _reaching("clips.sources", address) as (filesystem, path):
            filesystem.get_file(path, str(copy))
        yield copy


@contextmanager
def _reaching(field: str, url: str) -> Iterator[tuple[Any, str]]:
    """Yield file system and path of a URL. Any error inside becomes a :class:`ConfigError` of one sentence."""
    try:
        import fsspec.core

        yield fsspec.core.url_to_fs(url, use_listings_cache=False)
    except Exception as error:  # Each protocol's library has its own errors, and few are an OSError.
        text = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{field}: can't read {url}: {text}") from error


@dataclass(frozen=True)
class VideoEntry:
    """The table's entry for one video. None: the table has no value."""

    prompt: str | None = None
    group: str | None = None
    split: Split | None = None


@dataclass(frozen=True)
class VideoMetadata:
    """The entries of the table that :func:`read_metadata` read, by the parts of their ``file``."""

    entries: dict[tuple[str, ...], VideoEntry]

    def lookup(self, address: str) -> VideoEntry:
        """Return the entry with the longest ``file`` that ends the video's address, or an empty entry."""
        parts = PurePosixPath(address).parts if is_url(address) else Path(address).absolute().parts
        ends = (parts[start:] for start in range(len(parts)))
        return next((self.entries[end] for end in ends if end in self.entries), VideoEntry())


def read_metadata(address: str) -> VideoMetadata:
    """Read a CSV or Parquet table with the column ``file`` and any of ``prompt``, ``group``, ``split``. ``file`` is a
    name or the end of a path, as ``dancer.mp4`` or ``day 1/dancer.mp4``. ``split`` is ``train`` or ``held_out``, and
    counts for the whole group. Empty cells count as missing. Raises :class:`ConfigError` for other tables."""
    table = _read(address)
    if problem := _problem(table.column_names):
        raise ConfigError(f"clips.metadata: {address} has {problem}; its columns may be: {', '.join(_COLUMNS)}")
    entries: dict[tuple[str, ...], VideoEntry] = {}
    for row in table.to_pylist():
        if not row["file"]:
            raise ConfigError(f"clips.metadata: {address} has a row without 'file'")
        parts = PurePosixPath(row["file"]).parts
        if parts in entries:
            raise ConfigError(f"clips.metadata: {address} has '{row['file']}' twice")
        split = row.get("split") or None
        if split not in (*get_args(Split), None):
            raise ConfigError(f"clips.metadata: {address} has the split '{split}'; it may be: train, held_out")
        entries[parts] = VideoEntry(row.get("prompt") or None, row.get("group") or None, split)
    sides = _sides(entries.values(), address)
    return VideoMetadata({parts: replace(one, split=sides.get(one.group, one.split)) for parts, one in entries.items()})


def _sides(entries: Iterable[VideoEntry], address: str) -> dict[str | None, Split]:
    """Return the split of each group that has one. Raises :class:`ConfigError` for a group with two."""
    sides: dict[str | None, Split] = {}
    for one in entries:
        if one.group and one.split and sides.setdefault(one.group, one.split) != one.split:
            raise ConfigError(f"clips.metadata: {address} has group '{one.group}' both in train and in held_out")
    return sides


def _problem(columns: list[str]) -> str | None:
    if unknown := [column for column in columns if column not in _COLUMNS]:
        return f"an unknown column '{unknown[0]}'"
    if twice := [column for column in _COLUMNS if columns.count(column) > 1]:
        return f"the column '{twice[0]}' twice"
    return None if "file" in columns else "no column 'file'"


def _read(address: str) -> pa.Table:
    """Read all columns as text."""
    suffix = PurePosixPath(address).suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise ConfigError(f"clips.metadata: {address} is neither .csv nor .parquet")
    data = io.BytesIO(_bytes(address))
    try:
        if suffix == ".parquet":
            table = pyarrow.parquet.read_table(data)
            return table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
        text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(_COLUMNS, pa.string()))
        return pyarrow.csv.read_csv(data, convert_options=text)
    except pa.ArrowException as error:
        raise ConfigError(f"clips.metadata: {address} can't be read: {error}") from None


def _bytes(address: str) -> bytes:
    if is_url(address):
        with _reaching("clips.metadata", address) as (filesystem, path):
            data: bytes = filesystem.cat_file(path)
            return data
    try:
        return Path(address.removeprefix("file://")).read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"clips.metadata: there is no file {address}") from None
