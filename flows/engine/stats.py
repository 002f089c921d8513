"""Statistics over the last runs of a store, from their records: failures, waiting, hours by stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Final

from flows.engine.progress import span
from flows.engine.status import RunState

LAST: Final = 50
"""Runs that are looked at."""
STAGE_HEAD: Final = ("stage", "runs", "items", "computed", "failed", "GPU-hours", "CPU-hours", "wall time")
_FAILURES: Final = ("failed", "killed")


@dataclass(frozen=True)
class StageStats:
    name: str
    runs: int
    """Runs that came to the stage."""
    items: int
    computed: int
    failed: int
    gpu_hours: float
    cpu_hours: float
    """Hours of one process each."""
    seconds: float
    """Wall time."""

    def row(self) -> tuple[str, ...]:
        counts = (self.runs, self.items, self.computed, self.failed)
        return (self.name, *map(str, counts), f"{self.gpu_hours:.3f}", f"{self.cpu_hours:.3f}", span(self.seconds))


@dataclass(frozen=True)
class RunStats:
    runs: int
    oldest: str | None
    """Id of the oldest run that was looked at."""
    states: dict[str, int]
    failure_rate: float | None
    """Failed and killed runs as a share of those that ended; None if none has."""
    queue_seconds: float | None
    """Mean wait from the scheduled time to the start; None if no run had a schedule."""
    longest_queue_seconds: float | None
    queue_known: int
    """Runs whose wait is known."""
    unmeasured: int
    """Runs of older versions, which recorded no hours."""
    stages: tuple[StageStats, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def sentences(self) -> list[str]:
        counts = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in self.states.items())
        found = [
            f"{self.runs} runs since {self.oldest}: {counts}" if self.runs > 1 else f"1 run, {self.oldest}: {counts}"
        ]
        if self.failure_rate is not None:
            found.append(f"failure rate: {self.failure_rate:.0%} of the runs that ended failed or were killed")
        if self.queue_seconds is None or self.longest_queue_seconds is None:
            found.append("queue time: unknown, no run had a schedule")
        else:
            mean, longest = span(self.queue_seconds), span(self.longest_queue_seconds)
            found.append(f"queue time: {mean} on average, {longest} at most, known of {self.queue_known} runs")
        if self.unmeasured:
            found.append(f"{self.unmeasured} runs of older versions recorded no hours")
        return found

    def rows(self) -> list[tuple[str, ...]]:
        """Return a line per stage, below :data:`STAGE_HEAD`."""
        return [stage.row() for stage in self.stages]


def run_stats(states: Sequence[RunState]) -> RunStats:
    """``states``: the newest run first."""
    counts = Counter(one.state for one in states)
    ended = sum(count for state, count in counts.items() if state not in ("running", "silent"))
    waits = [one.queued for one in states if one.queued is not None]
    return RunStats(
        runs=len(states),
        oldest=states[-1].run_id if states else None,
        states=dict(counts.most_common()),
        failure_rate=sum(counts[state] for state in _FAILURES) / ended if ended else None,
        queue_seconds=fmean(waits) if waits else None,
        longest_queue_seconds=max(waits, default=None),
        queue_known=len(waits),
        unmeasured=sum(one.seconds is None and one.progress is None for one in states),
        stages=tuple(_stage_stats(name, states) for name in _stage_names(states)),
    )


def _stage_names(states: Sequence[RunState]) -> list[str]:
    """Return the names in the order of the run with the most stages."""
    longest = max(states, key=lambda one: len(one.stages), default=None)
    first = [row.name for row in longest.stages] if longest else []
    return list(dict.fromkeys([*first, *(row.name for one in states for row in one.stages)]))


def _stage_stats(name: str, states: Sequence[RunState]) -> StageStats:
    rows = [row for one in states for row in one.stages if row.name == name]
    return StageStats(
        name=name,
        runs=len(rows),
        items=sum(row.items for row in rows),
        computed=sum(row.computed for row in rows),
        failed=sum(row.failed for row in rows),
        gpu_hours=round(sum(row.hours.get("gpu", 0.0) for row in rows), 8),
        cpu_hours=round(sum(row.hours.get("cpu", 0.0) for row in rows), 8),
        seconds=round(sum(row.seconds for row in rows), 1),
    )
