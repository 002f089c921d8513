"""Show a run in the Prefect UI, besides its tasks.

Showing must not stop computing: if the server does not answer, the run goes on and logs a warning.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import httpx
from prefect import flow
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.engine.progress import StageProgress, span
from flows.engine.run import UpstreamChanged
from flows.engine.stage import RunStopped, Stage
from flows.engine.stats import STAGE_HEAD, RunStats
from flows.engine.summary import RunSummary, StageTable
from flows.engine.watch import Watch
from ipa_core.config import ConfigError
from ipa_core.records import LeftOut, YieldReport
from ipa_core.reporting.charts import curve_chart
from ipa_core.reporting.page import data_uri
from ipa_core.reporting.report import ReportData, Sheet
from ipa_core.reporting.sheets import ROWS

log = logging.getLogger(__name__)
_LOGGER = logging.getLogger("flows")
SHEETS = 4
"""Number of contact sheets shown; the report has them all."""


class RunFailed(Exception):  # noqa: N818 - the name is clear without Error
    """A run could not go on, for the reason in the message. ``summary`` is None when it had not begun."""

    def __init__(self, message: str, summary: RunSummary | None = None) -> None:
        super().__init__(message)
        self.summary = summary


def failed(message: str, summary: RunSummary | None = None) -> State[Any]:
    """Return the state of a flow that ends with a reason. Prefect raises its data, so they are an exception."""
    return Failed(message=message, data=RunFailed(message, summary))


def _is_to_be_logged(record: logging.LogRecord) -> bool:
    """Keep Prefect's traceback of a :class:`RunFailed` out of the log: the reason stands there as the last line."""
    return record.exc_info is None or not isinstance(record.exc_info[1], RunFailed)


for _name in ("prefect.engine", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_is_to_be_logged)


class Monitor(Watch):
    """Shows a run in its flow run. The run's threads may call it."""

    def __init__(self, run: str) -> None:
        self.flow_run = flow_run.get_id()
        self.queued = _queued()
        self._run = run
        self._bars: dict[str, UUID] = {}
        self._thread = ThreadPoolExecutor(1)
        # The run's log in the UI holds the pipeline's log: training, repairs, failures.
        self._logs = APILogHandler(logging.INFO)
        _LOGGER.addHandler(self._logs)
        _LOGGER.setLevel(logging.INFO)
        self._telling: Future[None] | None = None

    def stage(self, stage: Stage[Any], work: Callable[[Stage[Any]], StageTable]) -> None:
        """Run a stage as its own flow run. Raise the error that ends the stage; the flow run's state only shows it."""
        under_way = _UnderWay(stage, work)
        _stage.set(under_way)
        stage_flow.with_options(name=stage.name, flow_run_name=f"{stage.name}, {self._run}")(return_state=True)
        if under_way.error is not None:
            raise under_way.error

    def progress(self, progress: StageProgress) -> None:
        # A slow server must not slow the work down: numbers that come before it answers are dropped.
        if self._telling is None or self._telling.done():
            self._telling = self._thread.submit(copy_context().run, self._tell, progress)

    def _tell(self, progress: StageProgress) -> None:
        with _shown(f"the progress of {progress.stage}"):
            percent = round(100 * progress.share, 1)
            text = progress.sentence()
            if progress.stage in self._bars:
                update_progress_artifact(self._bars[progress.stage], percent, text)
            else:
                key = f"progress-{progress.stage}"
                self._bars[progress.stage] = cast(UUID, create_progress_artifact(percent, key, text))

    def show(self, data: ReportData) -> None:
        """Show the selection's yield, contact sheets and the training curve."""
        with _shown("the yield report"):
            create_markdown_artifact(
                key="yield", markdown=_yield(data.yield_report, data.left_out), description="Yield"
            )
        for number, sheet in enumerate(data.sheets[:SHEETS], 1):
            with _shown("a contact sheet"):
                text = f"{sheet.clip}, {sheet.caption}"
                create_markdown_artifact(_contact_sheet(sheet), f"contact-sheet-{number}", text)
        for curve in data.curves[:1]:
            with _shown("the training curve"):
                text = f"Training {curve.name}: {curve.about}"
                picture = _picture(f"training {curve.name}", curve_chart(curve), "svg+xml")
                create_markdown_artifact(picture, "training-curve", text)

    def outcome(self, summary: RunSummary) -> None:
        """Show the table of the stages, the end of the run, and the addresses of its outputs."""
        with _shown("the table of the stages"):
            create_table_artifact(
                [_stage_row(row) for row in summary.stages], "stages", f"Run {summary.run_id}: {summary.status}"
            )
        with _shown("the outcome"):
            create_markdown_artifact(key="outcome", markdown=_outcome(summary), description=summary.status)
        site = os.environ.get("IPA_WEB_URL")
        if site and "report" in summary.outputs:
            # A page of the server can't link to a file: browsers never open it.
            with _shown("the link to the report"):
                link = f"{site.rstrip('/')}/runs/{summary.run_id}/report.html"
                create_link_artifact(link, link_text=link, key="report", description="The report of the run")

    def stats(self, stats: RunStats) -> None:
        """Show the statistics over the last runs of the store."""
        with _shown("the statistics of the runs"):
            create_markdown_artifact(key="ipa-stats", markdown=_stats(stats), description="The last runs of the store")

    def close(self) -> None:
        self._thread.shutdown()
        _LOGGER.removeHandler(self._logs)


@dataclass
class _UnderWay:
    """The running stage, and the error that ended it."""

    stage: Stage[Any]
    work: Callable[[Stage[Any]], StageTable]
    error: BaseException | None = None


_stage: ContextVar[_UnderWay] = ContextVar("stage")


@flow(name="stage", persist_result=False, result_serializer="json")
def stage_flow() -> State[Any]:
    """Run the current stage. A flow goes to workers with its tasks, so it must not hold the run itself."""
    from flows.orchestration.monitoring import current_stage

    under_way = current_stage()
    try:
        table = under_way.work(under_way.stage)
    except UpstreamChanged as change:
        under_way.error = change
        return Completed(name="Outdated", message=str(change))
    except (RunStopped, ConfigError) as stop:
        under_way.error = stop
        return failed(str(stop))
    except BaseException as error:
        under_way.error = error
        raise
    unchanged = not table.computed and not table.failed
    return Completed(name="Cached" if unchanged else "Completed", message=table.sentence())


def current_stage() -> _UnderWay:
    return _stage.get()


@contextmanager
def _shown(what: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("the Prefect server could not be shown %s: %s", what, error)


def _yield(report: YieldReport, left: LeftOut) -> str:
    rows = [
        ("clips without candidates: no driving hand can be scored", left.no_hands),
        ("clips that early rejection gave up", left.given_up),
        ("candidates that it stopped", left.stopped),
        ("clips", report.clips),
        ("candidates", report.candidates),
        ("good in every frame", report.good),
        ("bad in every frame", report.bad),
        ("unscorable", report.unscorable),
        ("kept", report.kept),
        ("case 1: pairs both good", report.both_good_pairs),
        ("case 2: pairs both bad", report.both_bad_pairs),
        ("case 3: mixed pairs", report.mixed_pairs),
        ("case 4: strict pairs, what DPO needs", report.strict_pairs),
        ("clips with a strict pair", report.clips_with_strict_pair),
    ]
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {count} |" for name, count in rows)])


def _stage_row(row: StageTable) -> dict[str, Any]:
    counts = {name: getattr(row, name) for name in ("items", "cached", "computed", "rejected", "failed", "seconds")}
    hours = {f"{device}_hours": row.hours.get(device, 0.0) for device in ("gpu", "cpu")}
    return {"stage": row.name} | counts | hours


def _queued() -> float | None:
    """Return the seconds from the scheduled start of a deployment's run to now."""
    context = FlowRunContext.get()
    about = None if context is None else context.flow_run
    if about is None or about.deployment_id is None or about.expected_start_time is None:
        return None
    return max(0.0, (datetime.now(UTC) - about.expected_start_time).total_seconds())


def _stats(stats: RunStats) -> str:
    lines = [f"- {sentence}" for sentence in stats.sentences()]
    table = [STAGE_HEAD, ("---", *["---:"] * (len(STAGE_HEAD) - 1)), *stats.rows()]
    return "\n".join([*lines, "", *(f"| {' | '.join(row)} |" for row in table)])


def _contact_sheet(sheet: Sheet) -> str:
    return "\n\n".join(f"**{name}**\n\n{_picture(name, row)}" for name, row in zip(ROWS, sheet.rows, strict=True))


def _picture(name: str, data: bytes, kind: str = "jpeg") -> str:
    """A picture in Markdown: the page of an image artifact writes the image's address below it, here all its bytes."""
    return f"![{name}]({data_uri(data, kind)})"


def _plain(text: str) -> str:
    """Text for Markdown that shows as it is: names of files may hold marks, tags and line breaks."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!~&])", r"\\\1", " ".join(text.split()))


def _outcome(summary: RunSummary) -> str:
    lines = [f"# Run {summary.run_id}: {summary.status}", ""]
    if summary.error:
        lines += [_plain(summary.error), ""]
    if summary.promotion:
        lines += [_plain(summary.promotion.sentence()), ""]
    lines += [f"- {name}: `{path}`" for name, path in summary.outputs.items()]
    seconds = sum(row.seconds for row in summary.stages)
    lines += ["", f"{span(seconds)} in stages; {len(summary.dropped)} inputs were dropped:", ""]
    lines += [f"- {drop.stage}, {_plain(drop.name)}: {_plain(drop.reason)}" for drop in summary.dropped[:50]]
    if len(summary.dropped) > 50:
        lines.append(f"- and {len(summary.dropped) - 50} more, in the report")
    return "\n".join(lines)
