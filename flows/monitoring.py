"""What the Prefect UI shows of a run besides its tasks."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.runs import RunSummary


def publish(summary: RunSummary) -> None:
    """A table of the stages and a note with the outcome, as artifacts of the flow run."""
    create_table_artifact(
        key="stages",
        table=[
            {
                "stage": row.name,
                "items": row.items,
                "cached": row.cached,
                "computed": row.computed,
                "rejected": row.rejected,
                "failed": row.failed,
                "seconds": row.seconds,
            }
            for row in summary.stages
        ],
        description=f"Run {summary.run_id}: {summary.status}",
    )
    lines = [f"# Run {summary.run_id}: {summary.status}", ""]
    if summary.error:
        lines.append(summary.error)
    lines += [f"- {name}: `{path}`" for name, path in summary.outputs.items()]
    create_markdown_artifact(key="outcome", markdown="\n".join(lines))
