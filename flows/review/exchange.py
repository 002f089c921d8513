"""Writes and reads reviews for other tools: Label Studio's JSON tasks, and CSV. The file's suffix says which.

Label Studio (labelstud.io/guide/task_format): a task is an object with ``data``, ``annotations`` (of people) and
``predictions`` (ours: selection's decision). A choice is a result of the type ``choices``. Rows of the CSV carry the
same. The digest of its video identifies a candidate, so a file can be read into any store that has the video.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from flows.review.queue import Queue, Reviewable
from ipa_core.config import ConfigError
from ipa_core.records import Digest, Verdict
from storage import Store
from storage.digest import is_digest
from storage.folders import write_whole
from storage.reviews import Review, Reviews

Format = TypeVar("Format")
VERDICTS: Final[tuple[Verdict, ...]] = ("accept", "reject")
NAME: Final = "verdict"
"""Name of the choices in Label Studio's labelling config (see docs/curation.md)."""
VIDEO: Final = "video"
"""Name of the video that the choices are about."""
VIDEOS: Final = "videos"
"""Folder of the videos below the root of Label Studio's local storage."""


@dataclass(frozen=True)
class Line:
    """One candidate as a row or task of the file."""

    candidate: Digest
    verdict: Verdict | None
    by: str | None
    at: str | None
    """UTC, ISO 8601."""
    name: str
    clip_id: str
    seed: str
    """Text, because tables and JavaScript round numbers of 63 bits."""
    score: float | None
    kept: bool
    reason: str


def export_reviews(store: Store, queue: Queue, path: Path) -> int:
    """Write all candidates of a run, reviewed or not. Return how many are reviewed. Raises ``ConfigError``."""
    standing = Reviews(store.address).standing()
    lines = [_line(one, standing.get(one.candidate.video)) for one in queue.candidates]
    write_whole(path, _format(path, _WRITERS)(lines).encode())
    return sum(line.verdict is not None for line in lines)


def write_videos(store: Store, queue: Queue, folder: Path) -> None:
    """Copy the candidates' videos into a folder, under the names that the exported tasks use."""
    folder.mkdir(parents=True, exist_ok=True)
    for video in queue.positions:
        write_whole(folder / f"{video}.mp4", store.objects.get(video))


def import_reviews(store: Store, path: Path, by: str, at: str) -> tuple[int, int]:
    """Read reviews into a store; return how many there were and how many of them were new. ``by`` and ``at`` are the
    defaults of the file's values. A review that the store has already, word by word, is not added again. Raises
    ``ConfigError``, which says where the error is, before anything is added."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read {path}: {getattr(error, 'strerror', None) or error}") from None
    found = list(_format(path, _READERS)(text, path, by, at))
    reviews, added = Reviews(store.address), 0
    for review in found:
        if review not in reviews.history(review.candidate):
            reviews.add(review)
            added += 1
    return len(found), added


def _line(one: Reviewable, review: Review | None) -> Line:
    return Line(
        candidate=one.candidate.video,
        verdict=review.verdict if review else None,
        by=review.by if review and review.verdict else None,
        at=review.at if review and review.verdict else None,
        name=one.name,
        clip_id=one.candidate.clip_id,
        seed=str(one.candidate.seed),
        score=one.score.score,
        kept=one.decision.kept,
        reason=one.decision.reason,
    )


def _csv(lines: Sequence[Line]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(Line.__dataclass_fields__))
    writer.writeheader()
    writer.writerows(asdict(line) for line in lines)
    return file.getvalue()


def _read_csv(text: str, path: Path, by: str, at: str) -> Iterator[Review]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if not {"candidate", "verdict"} <= set(rows.fieldnames or ()):
        raise ConfigError(f"{path} is no table of reviews: it needs the columns candidate and verdict")
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        if row["verdict"]:
            yield _review(where, row["candidate"], row["verdict"], row.get("by") or by, row.get("at") or at)


def _json(lines: Sequence[Line]) -> str:
    return json.dumps([_task(line) for line in lines], indent=1)


def _task(line: Line) -> dict[str, Any]:
    said = [{"result": [_result(line.verdict)], "was_cancelled": False}] if line.verdict else []
    guess = {"model_version": "selection", "result": [_result("accept" if line.kept else "reject")]}
    return {
        # Label Studio serves its local storage under this path. write_videos puts the files there.
        "data": {"video": f"/data/local-files/?d={VIDEOS}/{line.candidate}.mp4", **asdict(line)},
        "annotations": said,
        "predictions": [guess if line.score is None else guess | {"score": line.score}],
    }


def _result(verdict: Verdict) -> dict[str, Any]:
    return {"from_name": NAME, "to_name": VIDEO, "type": "choices", "value": {"choices": [verdict]}}


def _read_json(text: str, path: Path, by: str, at: str) -> Iterator[Review]:
    try:
        tasks = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    if not isinstance(tasks, list):
        raise ConfigError(f"{path} is no list of Label Studio tasks; export them as JSON, not as JSON-MIN")
    for number, task in enumerate(tasks, 1):
        where = f"{path}, task {number}"
        try:
            data, annotations = task["data"], task.get("annotations") or []
            candidate = data["candidate"]
            for annotation in annotations:
                if annotation.get("was_cancelled"):
                    continue
                # An annotation that we wrote and nobody changed has its author in the data.
                who = _annotator(annotation) or data.get("by") or by
                when = annotation.get("updated_at") or annotation.get("created_at") or data.get("at") or at
                for result in annotation["result"]:
                    if result.get("from_name") == NAME:
                        [choice] = result["value"]["choices"]
                        yield _review(where, candidate, choice, who, when)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ConfigError(f"{where} is no task of ours: it needs data.candidate and choices named {NAME}") from None


def _annotator(annotation: Mapping[str, Any]) -> str | None:
    """Return the annotator. Label Studio names people by number, and in some exports by their address."""
    who = annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("email") or who.get("id")
    return f"Label Studio user {who}" if isinstance(who, int) else who


def _review(where: str, candidate: str, verdict: str, by: str, at: str) -> Review:
    if not is_digest(candidate):
        raise ConfigError(f"{where}: a candidate is told by the 64 hex digits of its video, got '{candidate}'")
    known = next((word for word in VERDICTS if word == verdict), None)
    if known is None:
        raise ConfigError(f"{where}: the verdict is accept or reject, got '{verdict}'")
    try:
        time = datetime.fromisoformat(at)
    except ValueError:
        raise ConfigError(f"{where}: the time is ISO 8601, got '{at}'") from None
    time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    return Review(candidate=candidate, verdict=known, by=by, at=time.isoformat(timespec="microseconds"))


_WRITERS: Final[dict[str, Callable[[Sequence[Line]], str]]] = {".csv": _csv, ".json": _json}
_READERS: Final[dict[str, Callable[[str, Path, str, str], Iterator[Review]]]] = {".csv": _read_csv, ".json": _read_json}


def _format(path: Path, formats: Mapping[str, Format]) -> Format:
    found = formats.get(path.suffix.lower())
    if found is None:
        raise ConfigError(f"{path}: the suffix says the format, .json for Label Studio or .csv")
    return found
