"""The record of a run: its config, stage tables, item names and results, under `runs/<run id>/` of the store."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import TypeAdapter

from flows.engine.machine import Machine
from flows.engine.progress import StageProgress
from flows.engine.stage import Drop, Item
from flows.engine.store import existing_store
from flows.engine.summary import RunProgress, RunSummary, StageTable
from flows.engine.view import Results
from ipa_core.config import ConfigError, RunConfig
from ipa_core.config_file import load_config
from storage import Store, StoreError
from storage.errors import NEWER
from storage.folders import LocalFolder, cache_folder, write_whole
from storage.manifests import table_bytes, table_rows

log = logging.getLogger(__name__)
Value = TypeVar("Value")
LAST: Final = "last"
"""Names the newest run that is no experiment."""
_HELD: Final = "held"
"""Status of items that a run has looked up but not ended, and of items beside its own."""


class RunFolder:
    """Files under `runs/<run id>/` of a store, local or behind a URL. Each is replaced whole: no reader gets a half."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.run_id = run_id
        self._store = store
        self._folder = store.folder.below(f"runs/{run_id}")

    @classmethod
    def new(cls, store: Store) -> RunFolder:
        now = datetime.now(UTC)
        # The last digits are a fraction of a second, so that two runs in one second sort by time too.
        return cls(store, f"{now:%Y%m%d-%H%M%S}-{now.microsecond * 65536 // 1_000_000:04x}")

    def address(self, name: str = "") -> str:
        """Return the absolute path or URL of a file or folder of the run."""
        return self._folder.address(name)

    def write(self, name: str, data: bytes) -> str:
        """Write a file and return its address."""
        self._folder.write(name, data)
        return self.address(name)

    def write_json(self, name: str, data: Any) -> None:
        self.write(name, json.dumps(data, indent=1).encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return None if there is no such file. Raises ``StoreError`` for one that holds no JSON object."""
        data = self._folder.read(name)
        if data is None:
            return None
        try:
            about = json.loads(data)
        except ValueError:
            about = None
        if not isinstance(about, dict):
            raise self._damaged(name)
        return about

    def _damaged(self, name: str) -> StoreError:
        return StoreError(f"{self.address(name)} is damaged; `ipa store repair` forgets it")

    @contextmanager
    def readable(self, name: str) -> Iterator[None]:
        """Turn an error about the form of a file of the run into a ``StoreError`` of one sentence."""
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError):
            raise StoreError(
                f"this version can't read {self.address(name)}; {NEWER}, or move the run's folder away"
            ) from None

    def write_config(self, config: RunConfig) -> None:
        self.write("config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())

    def config(self) -> RunConfig:
        """Load the run's config. Raises :class:`ConfigError` when there is none."""
        path = self.local_copy("config.yaml")
        if path is None:
            raise ConfigError(f"there is no config at {self.address('config.yaml')}: the run did not get that far")
        return load_config(path)

    def config_text(self) -> str | None:
        data = self._folder.read("config.yaml")
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError:
            raise self._damaged("config.yaml") from None

    def mark_experiment(self) -> None:
        """Mark a run of a sweep or hand bench, so that "last" never means it."""
        self.write("experiment", b"")

    @property
    def is_experiment(self) -> bool:
        return self._folder.read("experiment") is not None

    @property
    def has_config(self) -> bool:
        return self._folder.size("config.yaml") is not None

    @property
    def name(self) -> str:
        """Name of the run's config, read as plain data: a run of an older version may have options that are gone."""
        text = self.config_text()
        if text is None:
            return "?"
        try:
            tree = yaml.safe_load(text)
        except (ValueError, yaml.YAMLError):
            tree = None
        if not isinstance(tree, dict):
            raise self._damaged("config.yaml")
        return str(tree.get("name", "?"))

    @property
    def known_name(self) -> str:
        """The same for lists, which go on when a run's config is damaged: "?" then."""
        try:
            return self.name
        except StoreError:
            return "?"

    def write_machine(self, machine: Machine) -> None:
        self.write_json("machine.json", asdict(machine))

    def machine(self) -> Machine | None:
        """Return None for a run of an older version."""
        about = self.read_json("machine.json")
        if about is None:
            return None
        with self.readable("machine.json"):
            return known_fields(Machine, about | {"gpus": tuple(about["gpus"])})

    @property
    def started(self) -> datetime:
        """The time in the run's id."""
        return datetime.strptime(self.run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)

    def write_items(self, results: Results, held: Iterable[Item] = ()) -> None:
        """Write the key of each item; `ipa plan` compares with them. Items that are ``held`` are no results of the run
        (yet); `ipa store gc` keeps theirs too."""
        rows: list[dict[str, str | None]] = [
            {
                "stage": stage,
                "name": entry.item.name,
                "key": entry.item.action.key,
                "status": entry.status,
                "outcome": entry.result.outcome if entry.result else None,
                "reason": entry.result.reason if entry.result else entry.error,
            }
            for stage, entries in results.items()
            for entry in entries
        ]
        known = {row["key"] for row in rows}
        rows += [
            {"stage": item.action.stage, "name": item.name, "key": item.action.key, "status": _HELD}
            for item in held
            if item.action.key not in known
        ]
        self.write("items.parquet", table_bytes(rows))

    def write_progress(self, progress: RunProgress) -> None:
        self.write_json("progress.json", asdict(progress))

    def progress(self) -> RunProgress | None:
        """Return the last progress written; None if there is none."""
        about = self.read_json("progress.json")
        if about is None:
            return None
        with self.readable("progress.json"):
            stage = known_fields(StageProgress, about["stage"]) if about["stage"] else None
            tables = tuple(known_fields(StageTable, row) for row in about["stages"])
            return known_fields(RunProgress, about | {"stage": stage, "stages": tables})

    def items(self, *stages: str) -> dict[tuple[str, str], str]:
        """Return the key by (stage, name), of all stages if none is named."""
        rows = self._item_rows(*stages)
        return {(row["stage"], row["name"]): row["key"] for row in rows if row["status"] != _HELD}

    def names(self, stage: str) -> dict[str, str]:
        """Return the name by key of a stage's items. Two items may have the same name."""
        return {row["key"]: row["name"] for row in self._item_rows(stage) if row["status"] != _HELD}

    def keys(self) -> set[str]:
        """Return the keys of all items, with those that are held."""
        return {row["key"] for row in self._item_rows()}

    def _item_rows(self, *stages: str) -> list[dict[str, Any]]:
        data = self._folder.read("items.parquet")
        if data is None:
            return []
        try:
            rows = table_rows(data, stage=stages) if stages else table_rows(data)
        except ValueError:
            raise self._damaged("items.parquet") from None
        with self.readable("items.parquet"):
            return [{name: row[name] for name in ("stage", "name", "key", "status")} for row in rows]

    def write_summary(self, summary: RunSummary) -> None:
        self.write_json("run.json", summary.to_json())

    def summary(self) -> dict[str, Any] | None:
        """Return None while the run goes on, or if it was killed."""
        return self.read_json("run.json")

    def dropped(self) -> tuple[Drop, ...]:
        """Return every input that the run dropped; none while it goes on."""
        with self.readable("run.json"):
            return tuple(known_fields(Drop, row) for row in (self.summary() or {}).get("dropped", ()))

    def export(self, digest: str, name: str, *, link: bool = False) -> None:
        """Put an object into the run's folder under a name that people know."""
        self._store.objects.export(digest, f"runs/{self.run_id}/{name}", link=link)

    def take(self, source: str, name: str) -> bool:
        """Put another file of the store into the run's folder; False if there is none. A local store links it."""
        return self._store.folder.copy(source, f"runs/{self.run_id}/{name}", link=True)

    def local_copy(self, name: str) -> Path | None:
        """Return the file on this machine, or a copy of the file behind the URL; None if there is none."""
        if isinstance(self._folder, LocalFolder):
            path = self._folder.path / name
            return path if path.exists() else None
        data = self._folder.read(name)
        if data is None:
            return None
        copy = cache_folder() / "runs" / self.run_id / name
        write_whole(copy, data)
        return copy


def known_fields(kind: type[Value], about: dict[str, Any]) -> Value:
    """Build a record of a run; leave out fields that only another version knows. Raises ``ValueError`` for a record of
    another form."""
    found: Value = _form(kind).validate_python(about)  # type: ignore[arg-type]
    return found


@cache
def _form(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def runs(store: Store) -> Iterator[RunFolder]:
    """Yield the newest run first; ids begin with the time."""
    return (RunFolder(store, name) for name in reversed(store.folder.folders("runs")))


def named_run(name: str) -> RunFolder:
    """Return a run by its id; for `last` the newest that is no experiment; for a config's name its newest run. Raises
    `ConfigError` if there is none."""
    store = existing_store()
    found = list(runs(store))
    for folder in found:
        if name == folder.run_id:
            return folder
    for folder in found:
        if (name == LAST or name == folder.known_name) and not folder.is_experiment:
            return folder
    raise ConfigError(
        f"the store at {store.address} has no run yet"
        if name == LAST
        else f"there is no run {name}; `ipa status` lists the last ones"
    )


def last_items(store: Store, looked_at: int = 10) -> dict[tuple[str, str], str]:
    """Return the key by (stage, name), from the newest of the last runs that had the item."""
    found: dict[tuple[str, str], str] = {}
    for number, run in enumerate(runs(store)):
        if number == looked_at:
            break
        try:
            found = run.items() | found
        except StoreError as error:
            log.warning("%s", error)
    return found
