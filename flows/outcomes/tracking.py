"""Give the report and the adapter of a run to the trackers of its training (`execution.trackers`)."""

from __future__ import annotations

from flows.engine.run import Run
from flows.stages.finetune import Finetune
from flows.training.tracking import Trackers


def track(run: Run) -> None:
    """A run that computed nothing has nothing new to give."""
    trained = run.view.one(Finetune)
    if trained is None or not run.config.execution.trackers or not run.computed:
        return
    trackers = Trackers(run.store, trained[1].key, run.config)
    trackers.open(resume=True)
    adapter = [run.folder.local_copy(f"lora/{name}") for name in trained[1].outputs]
    trackers.files("lora", [path for path in adapter if path is not None])
    report = run.folder.local_copy("report.html")
    if report is not None:
        trackers.files("report", [report])
    trackers.close()
