"""Label Studio's JSON (labelstud.io/guide/task_format): writes its tasks, reads its exports. Made with version 1.23.

A task is an object with ``data`` and, in an export, the ``annotations`` of people. Reviews from here travel in
``data``: as annotations they would get another author and time there. There are no predictions, because Label Studio
selects them in advance. The digest of its video identifies a candidate, so an export can be read into any store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from flows.review.pictures import DRIVING_HANDS, HANDS, Pictures
from flows.review.queue import Reviewable
from ipa_core.config import ConfigError
from storage import Store
from storage.folders import write_whole
from storage.reviews import Review

CONFIG: Final = Path(__file__).with_name("label_studio.xml")
"""The labelling config of the tasks."""
CHOICES: Final = "verdict"
"""Name of the choices in the labelling config."""


def files(one: Reviewable) -> dict[str, str]:
    """Return the names of the files that a candidate's task shows, by its fields."""
    video, driving = one.candidate.video, one.driving
    return {
        "video": f"{video}.mp4",
        "driving": f"{driving}.mp4",
        "hands": f"{video}-hands.jpg",
        "driving_hands": f"{driving}-hands.jpg",
    }


def write_files(store: Store, pictures: Pictures, one: Reviewable, folder: Path) -> None:
    """Write the files of a candidate's task into a folder, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "video": lambda: store.objects.get(one.candidate.video),
        "driving": lambda: store.objects.get(one.driving),
        "hands": lambda: pictures.get(one, HANDS),
        "driving_hands": lambda: pictures.get(one, DRIVING_HANDS),
    }
    for field, name in files(one).items():
        if not (folder / name).exists():
            write_whole(folder / name, content[field]())


def task(one: Reviewable, reviews: Iterable[Review], folder: str) -> dict[str, Any]:
    """Return a candidate's task. ``folder``: the name of the files' folder, below the root of Label Studio's local
    files."""
    return {
        "data": {
            **{field: f"/data/local-files/?d={folder}/{name}" for field, name in files(one).items()},
            **one.described(),
            "reviews": [review.model_dump(exclude={"candidate"}) for review in reviews],
        }
    }


def read_tasks(text: str, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the reviews of an export as (place in the file, row with candidate, verdict, by and at). ``by`` and ``at``
    are None where the file doesn't say them. Raises ``ConfigError``."""
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    if not isinstance(tasks, list):
        raise ConfigError(f"{path} is no list of Label Studio tasks; export them as JSON")
    addresses = _addresses(tasks)
    for number, one in enumerate(tasks, 1):
        where = f"{path}, task {number}"
        try:
            rows = list(_rows(one, addresses))
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ConfigError(
                f"{where} is no task of ours: it needs data.candidate and choices named {CHOICES}; export as JSON, "
                "not as JSON-MIN"
            ) from None
        yield from ((where, row) for row in rows)


def _rows(one: Mapping[str, Any], addresses: Mapping[Any, str]) -> Iterator[Mapping[str, Any]]:
    data, annotations = one["data"], one.get("annotations") or []
    candidate = data["candidate"]
    yield from ({"candidate": candidate, **review} for review in data.get("reviews") or [])
    for annotation in annotations:
        # Label Studio names a user in `updated_by` when somebody submits or changes an annotation. It names none where
        # an annotation was imported and nobody touched it, although it makes the importing user its author.
        untouched = "updated_by" in annotation and annotation["updated_by"] is None
        if untouched or annotation.get("was_cancelled"):
            continue
        for result in annotation["result"]:
            if result.get("from_name") == CHOICES:
                [choice] = result["value"]["choices"]
                who = annotation.get("updated_by") or _author(annotation)
                # Earlier versions exported reviews as annotations with their author and time in the data.
                by = reviewer(addresses.get(who, who)) or data.get("by")
                at = annotation.get("updated_at") or annotation.get("created_at") or data.get("at")
                yield {"candidate": candidate, "verdict": choice, "by": by, "at": at}


def _addresses(tasks: Iterable[Any]) -> dict[Any, str]:
    """Return users' e-mail addresses by their numbers. Only exports with whole authors (`annotations__completed_by`)
    have them."""
    found = [task.get("annotations") for task in tasks if isinstance(task, Mapping)]
    annotations = (one for some in found if isinstance(some, list) for one in some)
    authors = (one.get("completed_by") for one in annotations if isinstance(one, Mapping))
    return {who["id"]: who["email"] for who in authors if isinstance(who, Mapping) and {"id", "email"} <= who.keys()}


def _author(annotation: Mapping[str, Any]) -> Any:
    """Return the number of an annotation's author, or their e-mail address."""
    author = annotation.get("completed_by")
    return author.get("id") or author.get("email") if isinstance(author, Mapping) else author


def reviewer(who: Any) -> str | None:
    """Return a reviewer's name for a user of Label Studio, who is a number or an e-mail address."""
    return f"Label Studio user {who}" if str(who).isdigit() else who or None
