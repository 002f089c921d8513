"""Reads the table of prompts, groups and splits of the driving videos. It may lie behind an fsspec URL."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, Final, get_args

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ipa_core.clips.references import one_form
from ipa_core.clips.sources import Video, is_url, reaching
from ipa_core.config import ConfigError
from ipa_core.records import Split

_SHOWN: Final = 120
"""Characters of a reader's error that a message shows."""
_COLUMNS: Final = ("file", "prompt", "group", "split", "reference")


@dataclass(frozen=True)
class VideoEntry:
    """The table's entry for one video. None: the table has no value."""

    prompt: str | None = None
    group: str | None = None
    split: Split | None = None
    reference: str | None = None
    """Name of a picture in `clips.references`."""


@dataclass(frozen=True)
class VideoMetadata:
    """The entries of the table that :func:`read_metadata` read, by the parts of their ``file``."""

    entries: dict[tuple[str, ...], VideoEntry]
    note: str | None = None
    """What people should know about how it was read."""

    @property
    def references(self) -> tuple[str, ...]:
        """The pictures that rows name."""
        return tuple(entry.reference for entry in self.entries.values() if entry.reference)

    def lookup(self, address: str) -> VideoEntry:
        """Return the entry with the longest ``file`` that ends the video's address, or an empty entry."""
        row = self._row(address)
        return VideoEntry() if row is None else self.entries[row]

    def _row(self, address: str) -> tuple[str, ...] | None:
        parts = _parts(address if is_url(address) else str(Path(address).absolute()))
        ends = (parts[start:] for start in range(len(parts)))
        return next((end for end in ends if end in self.entries), None)

    def unmatched(self, videos: Sequence[Video]) -> Unmatched:
        """Return the rows that name none of the videos, and the videos that no row names."""
        rows = {video.address: self._row(video.address) for video in videos}
        used = set(rows.values())
        # The split of a group is that of all its rows. A row without a group speaks for itself only.
        groups = {self.entries[row].group for row in used if row is not None} - {None}
        left = [row for row in self.entries if row not in used]
        return Unmatched(
            rows=tuple("/".join(row) for row in left),
            deciding=tuple(
                "/".join(row) for row in left if self.entries[row].split and self.entries[row].group not in groups
            ),
            videos=tuple(video.name for video in videos if rows[video.address] is None),
        )


@dataclass(frozen=True)
class Unmatched:
    """What a metadata table and a run's videos do not have in common."""

    rows: tuple[str, ...]
    """`file` of each row that names no video."""
    deciding: tuple[str, ...]
    """Those of them with a split that no other row of the same group carries."""
    videos: tuple[str, ...]
    """Names of the videos without a row."""

    def guess(self, row: str) -> str:
        """Return the row with the video that it may mean."""
        names = {name.lower().strip(): name for name in self.videos}
        near = get_close_matches(PurePosixPath(row.replace("\\", "/")).name.lower().strip(), names, 1, 0.8)
        return f"'{row}'" + (f" (did you mean '{names[near[0]]}'?)" if near else "")


def read_metadata(address: str) -> VideoMetadata:
    """Read a CSV or Parquet table with the column ``file`` and any of ``prompt``, ``group``, ``split``, ``reference``.

    ``file`` is a name or the end of a path, as ``dancer.mp4`` or ``day 1/dancer.mp4``. ``split`` is ``train`` or
    ``held_out``, and counts for the whole group. Empty cells count as missing. Columns of a CSV may be separated by
    commas, semicolons or tabs. Raises :class:`ConfigError` for other tables.
    """
    table, note = _read(address)
    if problem := _problem(table.column_names):
        raise ConfigError(f"clips.metadata: {address} has {problem}; its columns may be: {', '.join(_COLUMNS)}")
    entries: dict[tuple[str, ...], VideoEntry] = {}
    groups: dict[str, str] = {}
    for row in table.to_pylist():
        if not row["file"]:
            raise ConfigError(f"clips.metadata: {address} has a row without 'file'")
        parts = _parts(row["file"].strip().replace("\\", "/"))
        if parts in entries:
            raise ConfigError(f"clips.metadata: {address} has '{row['file']}' twice")
        split: Any = (row.get("split") or "").strip() or None
        if split not in (*get_args(Split), None):
            raise ConfigError(f"clips.metadata: {address} has the split '{split}'; it may be: train, held_out")
        reference = one_form((row.get("reference") or "").strip()) or None
        entries[parts] = VideoEntry(row.get("prompt") or None, _group(row.get("group") or "", groups), split, reference)
    sides = _sides(entries.values(), address)
    split = {parts: replace(one, split=sides.get(one.group, one.split)) for parts, one in entries.items()}
    return VideoMetadata(split, note)


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts of a path or URL."""
    return PurePosixPath(one_form(name)).parts


def _group(name: str, known: dict[str, str]) -> str | None:
    """Return a group as its first row spells it. Blanks around it or another form of an accent make no other
    performer, of whom one could be trained on and one judged on."""
    return known.setdefault(one_form(name.strip()), name) if name.strip() else None


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


def _read(address: str) -> tuple[pa.Table, str | None]:
    """Read all columns as text. The second value is what people should know about it."""
    suffix = PurePosixPath(address).suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise ConfigError(f"clips.metadata: {address} is neither .csv nor .parquet")
    data = io.BytesIO(_bytes(address))
    try:
        if suffix == ".parquet":
            table = pyarrow.parquet.read_table(data)
            return table.cast(pa.schema([(name, pa.string()) for name in table.column_names])), None
        text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(_COLUMNS, pa.string()))
        content, note = as_utf8(data.getvalue(), address)
        parsing = pyarrow.csv.ParseOptions(delimiter=separator(content.decode()))
        return pyarrow.csv.read_csv(io.BytesIO(content), parse_options=parsing, convert_options=text), note
    except pa.ArrowException as error:
        # The error shows what it read, which may be no text.
        text = "".join(sign if sign.isprintable() else "?" for sign in str(error)[:_SHOWN])
        raise ConfigError(f"clips.metadata: {address} can't be read: {text}") from None


def as_utf8(content: bytes, address: str) -> tuple[bytes, str | None]:
    """Return a table's text, and a sentence for people where its encoding had to be guessed."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Excel's "Unicode text".
        return content.decode("utf-16", errors="replace").encode(), None
    try:
        content.decode()
    except UnicodeDecodeError:
        note = (
            f"{address} is no UTF-8 text and was read as Latin-1 (Windows-1252); save it as UTF-8 if names look wrong"
        )
        return content.decode("cp1252", errors="replace").encode(), note
    return content, None


def separator(text: str) -> str:
    """Return the sign between the columns of a CSV: the most frequent one of its header."""
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


def _bytes(address: str) -> bytes:
    if is_url(address):
        with reaching("clips.metadata", address) as (filesystem, path):
            data: bytes = filesystem.cat_file(path)
            return data
    try:
        return Path(address.removeprefix("file://")).read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"clips.metadata: there is no file {address}") from None
