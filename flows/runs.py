"""What is kept of a run: its config, stage tables, item names and results, under `runs/<run id>/` of the store."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from flows.progress import StageProgress
from flows.stage import STAGE_NAMES, Drop, Results, StageName
from ipa_core.config import RunConfig, load_config
from storage import Store
from storage.manifests import read_manifest, write_manifest

RunStatus = Literal["completed", "nothing_new", "failed"]


@dataclass(frozen=True)
class StageTable:
    """Counts of one stage. items = cached + computed + failed; rejected are the findings among the first two."""

    name: StageName
    items: int
    cached: int
    computed: int
    rejected: int
    failed: int
    seconds: float

    def sentence(self) -> str:
        parts = [f"{self.cached} cached", f"{self.computed} computed"]
        parts += [f"{self.rejected} rejected"] if self.rejected else []
        parts += [f"{self.failed} failed"] if self.failed else []
        return f"{self.items} items: {', '.join(parts)}"


@dataclass(frozen=True)
class RunSummary:
    run_id: str
    status: RunStatus
    stages: tuple[StageTable, ...]
    outputs: dict[str, str] = field(default_factory=dict)
    """`lora`, `shards`, `report`: paths of what this run made."""
    error: str | None = None
    dropped: tuple[Drop, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RunProgress:
    """How far a run is that has not ended."""

    stages: tuple[StageTable, ...]
    """Those that are through."""
    stage: StageProgress | None
    """The one under way."""
    flow_run: str | None
    """Id of the Prefect flow run."""
    at: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)


class RunFolder:
    def __init__(self, store: Store, run_id: str) -> None:
        self.run_id = run_id
        self.path = Path(store.address) / "runs" / run_id

    @classmethod
    def new(cls, store: Store) -> RunFolder:
        folder = cls(store, f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
        folder.path.mkdir(parents=True)
        return folder

    def write_config(self, config: RunConfig) -> None:
        _replace(self.path / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())

    def config(self) -> RunConfig:
        """Raises :class:`ConfigError`."""
        return load_config(self.path / "config.yaml")

    def write_items(self, results: Results) -> None:
        """Which item was which action: what `ipa plan` compares with."""
        rows = [
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
        write_manifest(rows, self.path / "items.parquet")

    def write_progress(self, progress: RunProgress) -> None:
        """Readers may look at any time."""
        _replace(self.path / "progress.json", json.dumps(asdict(progress)).encode())

    def progress(self) -> RunProgress | None:
        """What was written last; None where the run did not get that far."""
        path = self.path / "progress.json"
        if not path.exists():
            return None
        about = json.loads(path.read_text())
        stage = StageProgress(**about["stage"]) if about["stage"] else None
        return RunProgress(**about | {"stage": stage, "stages": tuple(StageTable(**row) for row in about["stages"])})

    def write_summary(self, summary: RunSummary) -> None:
        _replace(self.path / "run.json", json.dumps(summary.to_json(), indent=1).encode())

    def has_ended(self) -> bool:
        return (self.path / "run.json").exists()

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "run.json").read_text())
        return found

    def items(self) -> dict[tuple[str, str], str]:
        """Key by (stage, name)."""
        path = self.path / "items.parquet"
        return {(row["stage"], row["name"]): row["key"] for row in read_manifest(path)} if path.exists() else {}

    def export(self, store: Store, digest: str, name: str, *, link: bool = False) -> Path:
        """Place an object into the run's folder under a name that people know."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        source = store.objects.path(digest)
        if link:
            try:
                os.link(source, target)
            except OSError:  # another file system
                shutil.copyfile(source, target)
        else:
            shutil.copyfile(source, target)
        return target


def runs(store: Store) -> Iterator[RunFolder]:
    """Newest first; names begin with their time."""
    folder = Path(store.address) / "runs"
    for path in sorted(folder.iterdir() if folder.exists() else [], reverse=True):
        yield RunFolder(store, path.name)


def last_items(store: Store, looked_at: int = 10) -> dict[tuple[str, str], str]:
    """Key by (stage, name) of the newest run that had the item, over the last runs."""
    found: dict[tuple[str, str], str] = {}
    for number, run in enumerate(runs(store)):
        if number == looked_at:
            break
        found = run.items() | found
    return found


def stage_table(results: Results, name: StageName, seconds: float) -> StageTable:
    entries = results.get(name, [])
    return StageTable(
        name=name,
        items=len(entries),
        cached=sum(entry.status == "cached" for entry in entries),
        computed=sum(entry.status == "computed" for entry in entries),
        rejected=sum(entry.result is not None and entry.result.outcome == "rejected" for entry in entries),
        failed=sum(entry.status == "failed" for entry in entries),
        seconds=round(seconds, 2),
    )


def drops(results: Results, extra: list[Drop]) -> tuple[Drop, ...]:
    """Every input that did not go on, with its reason."""
    found = list(extra)
    for stage in STAGE_NAMES:
        for entry in results.get(stage, []):
            if entry.error is not None:
                found.append(Drop(stage, entry.item.name, f"failed: {entry.error}"))
            elif entry.result is not None and entry.result.outcome == "rejected":
                found.append(Drop(stage, entry.item.name, entry.result.reason or "rejected"))
            elif stage == "clips" and entry.result is not None:
                found += [
                    Drop(stage, f"{entry.item.name} from {window['start']:.2f} s", window["reason"])
                    for window in entry.result.record["dropped"]
                ]
    return tuple(found)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
