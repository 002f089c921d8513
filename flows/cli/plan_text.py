"""A plan as the table that `ipa plan` prints."""

from __future__ import annotations

from flows.cli.tables import text_table
from flows.engine.plan import Plan, StagePlan
from flows.engine.progress import span
from flows.engine.room import size_text
from ipa_core.config import Execution
from ipa_core.models.cost import ASSUMED_FLOPS


def plan_text(plan: Plan, execution: Execution) -> str:
    priced = any(row.estimate.gpu_hours is not None for row in plan.stages)
    head = ("stage", "items", "cached", "compute", "time", "GPU-hours" if priced else "", "disk", "why")
    lines = [text_table("lrrrrrrl", head, [*(_stage_row(row) for row in plan.stages), _total_row(plan)])]
    if any(row.estimate.basis == "formula" for row in plan.stages):
        lines.append(
            f"~ by formula, at an assumed {ASSUMED_FLOPS / 1e12:.0f} TF/s per GPU and without codec and text encoder; "
            "measured once items of this model are in the store"
        )
    shared = f" ({execution.gpus_per_clip} per clip)" if execution.gpus_per_clip > 1 else ""
    lines.append(
        f"time with execution.gpus: {execution.gpus}{shared}, train_processes: {execution.train_processes}, "
        f"workers: {execution.workers}"
    )
    for change, count in plan.drift.items():
        lines.append(f"{count} cached results were made with another {change} (here); they stand until refreshed")
    lines += plan.notes
    return "\n".join(lines)


def _stage_row(row: StagePlan) -> tuple[str, ...]:
    reasons = [f"{count} x {reason}" if len(row.why) > 1 else reason for reason, count in row.why.items()]
    if row.uncounted and row.name != "clips":
        reasons.append(f"about {row.uncounted} follow from stages before")
    compute, estimate = row.compute + row.uncounted, row.estimate
    mark = " ~" if estimate.basis == "formula" else ""
    time = "" if not compute else "?" if estimate.seconds is None else span(estimate.seconds) + mark
    hours = "" if estimate.gpu_hours is None else f"{estimate.gpu_hours:.1f}{mark}"
    disk = "" if not compute else "?" if estimate.bytes is None else size_text(estimate.bytes)
    return row.name, str(row.items), str(row.cached), str(compute), time, hours, disk, "; ".join(reasons)


def _total_row(plan: Plan) -> tuple[str, ...]:
    waiting = [row.estimate for row in plan.stages if row.compute + row.uncounted]
    times = [estimate.seconds for estimate in waiting if estimate.seconds is not None]
    sizes = [estimate.bytes for estimate in waiting if estimate.bytes is not None]
    hours = [estimate.gpu_hours for estimate in waiting if estimate.gpu_hours is not None]
    unknown = min(len(times), len(sizes)) < len(waiting)
    return (
        *("total", "", "", ""),
        span(sum(times)) if times else "",
        f"{sum(hours):.1f}" if hours else "",
        size_text(sum(sizes)) if sizes else "",
        "and what is not known yet (?)" if unknown else "",
    )
