"""Follow a run from outside the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flows.engine.progress import StageProgress
from flows.engine.stage import Stage
from flows.engine.summary import RunSummary, StageTable


class Watch:
    """Follows a run; this one does nothing. `flows.orchestration.monitoring` has one for the Prefect UI."""

    flow_run: str | None = None
    """Id of the Prefect flow run."""
    queued: float | None = None
    """Seconds between the time for which the run was scheduled and its start."""

    def stage(self, stage: Stage[Any], work: Callable[[Stage[Any]], StageTable]) -> None:
        """Call ``work``, which runs the stage."""
        work(stage)

    def progress(self, progress: StageProgress) -> None:
        """Take the progress, now and then, from the run's threads."""

    def outcome(self, summary: RunSummary) -> None: ...

    def close(self) -> None: ...
