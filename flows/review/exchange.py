"""Writes and reads reviews for other tools: Label Studio's JSON tasks, and CSV. The file's suffix says which.

The digest of its video identifies a candidate, so a file can be read into any store that has the video.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from flows.review.label_studio import read_tasks, reviewer, task
from flows.review.queue import Queue, Reviewable
from ipa_core.clips.metadata import as_utf8, separator
from ipa_core.config import ConfigError
from ipa_core.records import Answer
from storage import Store
from storage.digest import is_digest
from storage.folders import write_whole
from storage.reviews import Review, Reviews, opinions

log = logging.getLogger(__name__)
Format = TypeVar("Format")
Reviewed = tuple[Reviewable, Sequence[Review]]
"""A candidate with the reviews that people stand by."""
Rows = Iterator[tuple[str, Mapping[str, Any]]]
"""Reviews in a file: the place for messages; candidate, verdict and, if the file says them, by and at."""
ANSWERS: Final[tuple[Answer, ...]] = get_args(Answer)
COLUMNS: Final = ("candidate", "verdict", "by", "at", "name", "clip_id", "seed", "score", "kept", "reason")


def export_reviews(store: Store, queue: Queue, path: Path, videos: str = "videos") -> int:
    """Write all candidates of a run, reviewed or not. Return how many are reviewed. ``videos``: the name of the folder
    with the tasks' files. Raises ``ConfigError``."""
    histories = Reviews(store.address).histories()
    found = [(one, opinions(histories.get(one.candidate.video, ()), queue.rule)) for one in queue.candidates]
    write_whole(path, _format(path, _WRITERS)(found, videos).encode())
    return sum(bool(reviews) for _, reviews in found)


def import_reviews(store: Store, path: Path, by: str, at: str) -> tuple[int, int]:
    """Read reviews into a store; return how many there were and how many of them were new. ``by`` and ``at`` are the
    defaults of the file's values. A review that the store has already, word by word, is not added again. Raises
    ``ConfigError``, which says where the error is, before anything is added."""
    try:
        content, note = as_utf8(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from None
    if note:
        log.warning("%s", note)
    text = content.decode("utf-8-sig")
    rows = _format(path, _READERS)(text, path)
    found = [
        _review(where, {"by": by, "at": at} | {name: row[name] for name in row if row[name]}) for where, row in rows
    ]
    reviews, added = Reviews(store.address), 0
    for review in found:
        if review not in reviews.history(review.candidate):
            reviews.add(review)
            added += 1
    return len(found), added


def _csv(found: Sequence[Reviewed], videos: str) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for one, reviews in found:
        about = one.described()
        writer.writerows(map(_as_text, (about | review.model_dump() for review in reviews) if reviews else [about]))
    return file.getvalue()


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet computes a cell that begins so, and a formula may send the table elsewhere."""


def _as_text(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose texts no spreadsheet takes for formulas: an apostrophe stands before them."""
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
        for name, value in row.items()
    }


def _from_text(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row that :func:`_as_text` wrote."""
    return {
        name: value[1:]
        if isinstance(value, str) and value.startswith("'") and value[1:].startswith(_FORMULA)
        else value
        for name, value in row.items()
    }


def _read_csv(text: str, path: Path) -> Rows:
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator(text))
    try:
        rows = [(table.line_num, row) for row in table]
    except csv.Error as error:
        raise ConfigError(f"{path} is no table: {error}") from None
    columns = set(table.fieldnames or ())
    if not {"candidate", "verdict"} <= columns:
        raise ConfigError(f"{path} is no table of reviews: it needs the columns candidate and verdict")
    for number, row in rows:
        where = f"{path}, line {number}"
        if "annotation_id" in columns:  # Label Studio exported it.
            # It has no time of work where an annotation was imported and nobody touched it.
            row = row | {"by": reviewer(row.get("annotator")), "at": row.get("updated_at") or row.get("created_at")}
            row = row if row.get("lead_time") else row | {"verdict": ""}
        if row["verdict"]:
            yield where, _from_text(row)


def _json(found: Sequence[Reviewed], videos: str) -> str:
    return json.dumps([task(one, reviews, videos) for one, reviews in found], indent=1)


def _review(where: str, row: Mapping[str, Any]) -> Review:
    candidate, said, by, at = row.get("candidate", ""), row.get("verdict"), row["by"], row["at"]
    if not is_digest(candidate):
        raise ConfigError(f"{where}: a candidate is told by the 64 hex digits of its video, got '{candidate}'")
    known = next((word for word in ANSWERS if word == said), None)
    if known is None:
        raise ConfigError(f"{where}: the verdict is accept, reject or unsure, got '{said}'")
    if not isinstance(by, str):
        raise ConfigError(f"{where}: a person is told by a name, got '{by}'")
    try:
        time = datetime.fromisoformat(at)
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        raise ConfigError(f"{where}: the time is ISO 8601, got '{at}'") from None
    return Review(candidate=candidate, verdict=known, by=by, at=time.isoformat(timespec="microseconds"))


_WRITERS: Final[dict[str, Callable[[Sequence[Reviewed], str], str]]] = {".csv": _csv, ".json": _json}
_READERS: Final[dict[str, Callable[[str, Path], Rows]]] = {".csv": _read_csv, ".json": read_tasks}


def _format(path: Path, formats: Mapping[str, Format]) -> Format:
    found = formats.get(path.suffix.lower())
    if found is None:
        raise ConfigError(f"{path}: the suffix says the format, .json for Label Studio or .csv")
    return found
