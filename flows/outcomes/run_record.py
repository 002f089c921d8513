"""Gather what the report says about a run besides its results, from the run's folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from flows.engine.progress import span
from flows.engine.run_folder import RunFolder
from flows.engine.stage import Drop
from flows.engine.status import RunState
from ipa_core.reporting.charts import PastRun
from ipa_core.reporting.run_record import DroppedInput, Fact, RunRecord, StageLine


def run_record(
    folder: RunFolder, state: RunState, dropped: Sequence[Drop], all_stages: Sequence[str], past: Sequence[PastRun] = ()
) -> RunRecord:
    """Return the record of a run that has ended or was killed. Raises pydantic's error for one that goes on."""
    under_way = state.progress.stage if state.progress else None
    return RunRecord(
        run=folder.run_id,
        name=folder.name,
        state=state.state,  # type: ignore[arg-type]  # pydantic checks it
        error=state.error,
        under_way=" ".join(under_way.sentence().split()) if under_way else None,
        promotion=state.promotion.sentence() if state.promotion else None,
        started=f"{folder.started:%Y-%m-%d %H:%M} UTC",
        duration=None if state.seconds is None else span(state.seconds),
        stages=tuple(StageLine(**asdict(row)) for row in state.stages),
        all_stages=tuple(all_stages),
        facts=tuple(Fact(what=what, value=value) for what, value in _facts(folder, state)),
        dropped=tuple(map(_dropped, dropped)),
        past=tuple(past),
        config=folder.config_text() or "The run did not get so far as to write it.",
    )


def _facts(folder: RunFolder, state: RunState) -> Iterator[tuple[str, str]]:
    machine = folder.machine()
    if machine is not None:
        yield "machine", machine.sentence()
        yield "host", machine.host
        yield "versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        yield "commit", machine.commit or "unknown: the installation is no git checkout"
    if state.queued is not None:
        yield "queued", span(state.queued)
    yield "folder", folder.address()


def _dropped(drop: Drop) -> DroppedInput:
    match = re.fullmatch(r"(.+?)(?: from (\d+\.\d+ s)| (#\d{3}.*))", drop.name)
    source, window = (match[1], match[2] or match[3]) if match else (drop.name, "")
    return DroppedInput(source=source, window=window, stage=drop.stage, reason=drop.reason)
