"""The report of a run: how it ended, its time, cost and machine around its results. One HTML file.

A run that failed, was stopped or was killed has one too, without results if there are none.
"""

from __future__ import annotations

from typing import Final, Literal

from markupsafe import Markup

from ipa_core.records import Record
from ipa_core.reporting.charts import PastRun, trend_chart
from ipa_core.reporting.reasons import count_by_reason
from ipa_core.reporting.report import ROW_LIMIT, report_templates

Ending = Literal["completed", "nothing_new", "failed", "stopped", "killed", "silent"]
_BAD: Final = {
    "failed": "This run failed",
    "stopped": "This run was stopped",
    "killed": "This run was killed",
    "silent": "This run fell silent",
}


class DroppedInput(Record):
    """A source or window that did not go on."""

    source: str
    """The name that people know."""
    window: str
    """``#002`` or ``5.00 s`` (its start); empty if the whole source was dropped."""
    stage: str
    reason: str


class StageLine(Record):
    name: str
    items: int
    cached: int
    computed: int
    rejected: int
    failed: int
    seconds: float
    hours: dict[str, float]
    """Measured hours of the computed items by device: ``gpu``, ``cpu`` (of one process), ``unrecorded``."""
    cached_hours: dict[str, float]


class Fact(Record):
    what: str
    value: str


class RunRecord(Record):
    run: str
    """The run's id."""
    name: str
    """Of the config."""
    state: Ending
    error: str | None
    """The sentence with which it ended."""
    under_way: str | None = None
    """The stage in which a killed run was, with its counts."""
    promotion: str | None
    """What became of the adapter."""
    started: str
    duration: str | None
    """In words; None if nobody recorded it."""
    stages: tuple[StageLine, ...]
    """Those that it came to."""
    all_stages: tuple[str, ...]
    facts: tuple[Fact, ...]
    """Machine and versions; the first is the machine."""
    dropped: tuple[DroppedInput, ...]
    past: tuple[PastRun, ...]
    """The last runs of this config with this one, newest first; empty if nobody looked."""
    config: str
    """The complete config as YAML."""

    @property
    def ending(self) -> str | None:
        """One sentence for a run that is no whole success; None for one that is."""
        reached = [line.name for line in self.stages]
        if self.state in _BAD:
            where = f" in {self.under_way}" if self.under_way else f" in {reached[-1]}" if reached else ""
            return f"{_BAD[self.state]}{where}{f': {self.error}' if self.error else ''}."
        if len(reached) < len(self.all_stages):
            return f"This run went up to {reached[-1]}, as asked: {len(reached)} of {len(self.all_stages)} stages."
        return "Nothing new: every result was in the store." if self.state == "nothing_new" else None

    @property
    def broke_off(self) -> bool:
        return self.state in _BAD

    def hours(self, *devices: str, cached: bool) -> float:
        """Sum the hours of all stages on these devices, with those of the cached items if asked for."""
        return sum(line_hours(line, *devices, cached=cached) for line in self.stages)


def line_hours(line: StageLine, *devices: str, cached: bool) -> float:
    kinds = (line.hours, line.cached_hours) if cached else (line.hours,)
    return sum(kind.get(device, 0.0) for kind in kinds for device in devices)


def render_report(record: RunRecord, results: str | None) -> str:
    """Return the complete HTML; ``results`` is of ``report.render_results``."""
    measured = [one for one in record.past if one.scores or one.candidates]
    return (
        report_templates()
        .get_template("report.html.j2")
        .render(
            record=record,
            # A template made the results, and escaped what they hold.
            results=None if results is None else Markup(results),  # nosec B704
            line_hours=line_hours,
            dropped=record.dropped[:ROW_LIMIT],
            dropped_cut=max(0, len(record.dropped) - ROW_LIMIT),
            dropped_reasons=count_by_reason(line.reason for line in record.dropped),
            trend=trend_chart(measured[::-1]) if len(measured) > 1 else None,
        )
    )
