"""Which videos a run takes, and what a table says about them."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ipa_core.config import ConfigError

VIDEO_SUFFIXES: Final = frozenset(
    {".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)
_COLUMNS: Final = ("file", "prompt", "group")


def find_videos(sources: Sequence[str]) -> list[Path]:
    """The video files that ``sources`` name: files, folders (read recursively) and globs (``**`` for any depth).

    Of folders and globs only files with a video's suffix, and no hidden ones; a file named as such is always taken.
    Sorted, each real file once. Raises :class:`ConfigError` for a source without a video.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        videos = list(_videos(source))
        if not videos:
            raise ConfigError(f"clips.sources: there is no video at '{source}'")
        for video in videos:
            found.setdefault(video.resolve(), video)
    return sorted(found.values())


def _videos(source: str) -> Iterator[Path]:
    path = Path(source).expanduser()
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from filter(_is_video, path.rglob("*"))
    else:
        for match in map(Path, glob.glob(str(path), recursive=True)):  # noqa: PTH207 - Path.glob wants a relative one
            yield from filter(_is_video, match.rglob("*") if match.is_dir() else [match])


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


@dataclass(frozen=True)
class VideoEntry:
    """What the table says about one video; None where it says nothing."""

    prompt: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class VideoMetadata:
    """Entries by the parts of their ``file``, from the table that :func:`read_metadata` read."""

    entries: dict[tuple[str, ...], VideoEntry]

    def lookup(self, video: Path) -> VideoEntry:
        """The entry whose ``file`` the video's path ends with, the longest where several do; else an empty one."""
        parts = video.absolute().parts
        ends = (parts[start:] for start in range(len(parts)))
        return next((self.entries[end] for end in ends if end in self.entries), VideoEntry())


def read_metadata(path: Path) -> VideoMetadata:
    """Read a CSV or Parquet table with the column ``file`` and any of ``prompt``, ``group``; empty cells say nothing.

    ``file`` is a name or the end of a path, as ``dancer.mp4`` or ``day 1/dancer.mp4``. Raises :class:`ConfigError`.
    """
    table = _read(path)
    if problem := _problem(table.column_names):
        raise ConfigError(f"clips.metadata: {path} has {problem}; its columns may be: {', '.join(_COLUMNS)}")
    entries: dict[tuple[str, ...], VideoEntry] = {}
    for row in table.to_pylist():
        if not row["file"]:
            raise ConfigError(f"clips.metadata: {path} has a row without 'file'")
        parts = PurePosixPath(row["file"]).parts
        if parts in entries:
            raise ConfigError(f"clips.metadata: {path} has '{row['file']}' twice")
        entries[parts] = VideoEntry(row.get("prompt") or None, row.get("group") or None)
    return VideoMetadata(entries)


def _problem(columns: list[str]) -> str | None:
    if unknown := [column for column in columns if column not in _COLUMNS]:
        return f"an unknown column '{unknown[0]}'"
    if twice := [column for column in _COLUMNS if columns.count(column) > 1]:
        return f"the column '{twice[0]}' twice"
    return None if "file" in columns else "no column 'file'"


def _read(path: Path) -> pa.Table:
    """All columns as text."""
    try:
        if path.suffix.lower() == ".parquet":
            table = pyarrow.parquet.read_table(path)
            return table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
        if path.suffix.lower() == ".csv":
            text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(_COLUMNS, pa.string()))
            return pyarrow.csv.read_csv(path, convert_options=text)
    except FileNotFoundError:
        raise ConfigError(f"clips.metadata: there is no file {path}") from None
    except pa.ArrowException as error:
        raise ConfigError(f"clips.metadata: {path} can't be read: {error}") from None
    raise ConfigError(f"clips.metadata: {path} is neither .csv nor .parquet")
