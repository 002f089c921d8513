"""What a run says about itself: its stage tables, its progress, and the summary of how it ended."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from flows.engine.progress import StageProgress
from flows.engine.stage import Drop, ItemResult, Stage
from flows.engine.view import Results, View

RunStatus = Literal["completed", "nothing_new", "failed", "stopped"]


@dataclass(frozen=True)
class StageTable:
    """Counts of one stage. items = cached + computed + failed; rejected items are among the first two."""

    name: str
    items: int
    cached: int
    computed: int
    rejected: int
    failed: int
    seconds: float
    hours: dict[str, float] = field(default_factory=dict)
    """Measured hours of the computed items by device: `gpu`, `cpu` (of one process), or `unrecorded` for results of
    versions that did not record it."""
    cached_hours: dict[str, float] = field(default_factory=dict)
    """The same for the cached items: what this run did not have to compute."""

    def sentence(self) -> str:
        parts = [f"{self.cached} cached", f"{self.computed} computed"]
        parts += [f"{self.rejected} rejected"] if self.rejected else []
        parts += [f"{self.failed} failed"] if self.failed else []
        return f"{self.items} items: {', '.join(parts)}"


@dataclass(frozen=True)
class Promotion:
    """Result of the promotion of a run's adapter; part of the run's summary."""

    adapter: str
    decision: Literal["promoted", "refused", "unchanged"]
    """``unchanged``: an earlier ruling stands, on the same evidence or for good."""
    reason: str
    against: str | None
    """Digest of the champion it was compared with; None: the base model."""

    def sentence(self) -> str:
        over = f"the champion {self.against[:12]}" if self.against else "the base model"
        return f"adapter {self.adapter[:12]}: {self.decision}, compared with {over}: {self.reason}"


@dataclass(frozen=True)
class RunSummary:
    run_id: str
    status: RunStatus
    stages: tuple[StageTable, ...]
    outputs: dict[str, str] = field(default_factory=dict)
    """Paths or URLs of this run's `lora`, `shards` and `report`."""
    error: str | None = None
    dropped: tuple[Drop, ...] = ()
    promotion: Promotion | None = None
    """None if the run made no comparison."""
    seconds: float | None = None
    """Wall time. None in records of older versions."""
    queued: float | None = None
    """Seconds between the time for which the run was scheduled and its start. None without a schedule."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run that has not ended."""

    stages: tuple[StageTable, ...]
    """The stages that have ended."""
    stage: StageProgress | None
    """The running stage."""
    flow_run: str | None
    """Id of the Prefect flow run."""
    at: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    host: str = field(default_factory=socket.gethostname)
    process: int = field(default_factory=os.getpid)


def stage_table(results: Results, name: str, seconds: float) -> StageTable:
    entries = results.get(name, [])
    return StageTable(
        name=name,
        items=len(entries),
        cached=sum(entry.status == "cached" for entry in entries),
        computed=sum(entry.status == "computed" for entry in entries),
        rejected=sum(entry.result is not None and entry.result.outcome == "rejected" for entry in entries),
        failed=sum(entry.status == "failed" for entry in entries),
        seconds=round(seconds, 2),
        hours=_hours(entry for entry in entries if entry.status == "computed"),
        cached_hours=_hours(entry for entry in entries if entry.status == "cached"),
    )


def _hours(entries: Iterable[ItemResult]) -> dict[str, float]:
    found: dict[str, float] = {}
    for result in {entry.result.key: entry.result for entry in entries if entry.result is not None}.values():
        about = result.provenance
        device = about.get("device")
        kind = "unrecorded" if device is None else "cpu" if device == "cpu" else "gpu"
        found[kind] = found.get(kind, 0.0) + about.get("seconds", 0.0) * about.get("processes", 1) / 3600
    return {kind: round(hours, 8) for kind, hours in sorted(found.items())}


def drops(view: View, stages: Sequence[Stage[Any]]) -> tuple[Drop, ...]:
    """Return every input that did not go on, with its reason."""
    found = list(view.dropped)
    for stage in stages:
        for entry in view.results.get(stage.name, []):
            if entry.error is not None:
                found.append(Drop(stage.name, entry.item.name, f"failed: {entry.error}"))
            elif entry.result is not None and entry.result.outcome == "rejected":
                found.append(Drop(stage.name, entry.item.name, entry.result.reason or "rejected"))
            elif entry.result is not None:
                found += stage.window_drops(entry.item, entry.result)
    return tuple(found)
