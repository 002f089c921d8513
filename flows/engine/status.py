"""The state of runs for `ipa status`, read from their folders in the store."""

from __future__ import annotations

import socket
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from flows.engine.progress import span
from flows.engine.run_folder import RunFolder, known_fields, runs
from flows.engine.summary import Promotion, RunProgress, StageTable
from storage import Store, StoreError

SILENCE = 300.0
"""Seconds without news after which a run on another machine counts as silent: killed, or at one long item."""


@dataclass(frozen=True)
class RunState:
    run_id: str
    config: str
    """Name of the run's config."""
    state: str
    """`running`, `silent`, `killed`, `unreadable`, or how it ended: `completed`, `nothing_new`, `failed`, `stopped`."""
    stages: tuple[StageTable, ...]
    """The stages that have ended."""
    progress: RunProgress | None
    """None once the run has ended, and before it writes its first progress."""
    error: str | None
    outputs: dict[str, str]
    dropped: int
    promotion: Promotion | None = None
    seconds: float | None = None
    """Wall time; None before the end, and in records of older versions."""
    queued: float | None = None
    """See `RunSummary`."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        if self.progress is None:
            return self.error or f"{span(sum(row.seconds for row in self.stages))} in stages, {self.dropped} dropped"
        place = f"{self.progress.host}, process {self.progress.process}"
        about = self.progress.stage.sentence() if self.progress.stage else "between two stages"
        ago = "" if self.state == "running" else f", last heard of {span(time.time() - self.progress.at)} ago"
        return f"{about} ({place}{ago})"


def run_state(folder: RunFolder) -> RunState:
    summary = folder.summary()
    if summary is not None:
        return ended(folder, summary)
    progress = folder.progress()
    stages = progress.stages if progress else ()
    return RunState(folder.run_id, folder.known_name, _life_of(progress), stages, progress, None, {}, 0)


def ended(folder: RunFolder, summary: dict[str, Any]) -> RunState:
    """Return the state of a run with this summary."""
    with folder.readable("run.json"):
        about = {name: summary[name] for name in ("stages", "error", "outputs")}
        about |= {name: summary.get(name) for name in ("promotion", "seconds", "queued")}
        about |= {"run_id": folder.run_id, "config": folder.known_name, "state": summary["status"], "progress": None}
        return known_fields(RunState, about | {"dropped": len(summary["dropped"])})


def listed_state(folder: RunFolder) -> RunState:
    """Return the state of a run for a list: `unreadable` with a sentence where its record is damaged or of a newer
    version, so that it hides no other run."""
    try:
        return run_state(folder)
    except StoreError as error:
        return RunState(folder.run_id, "?", "unreadable", (), None, str(error), {}, 0)


def _life_of(progress: RunProgress | None) -> str:
    if progress is None:
        return "silent"
    if progress.host == socket.gethostname():
        return "running" if Path(f"/proc/{progress.process}").exists() else "killed"
    return "running" if time.time() - progress.at < SILENCE else "silent"


def last_runs(store: Store, count: int) -> list[RunState]:
    """Return the newest run first."""
    return [listed_state(folder) for folder in islice(runs(store), count)]
