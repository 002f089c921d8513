"""The whole run as a Prefect flow: from videos to an aligned LoRA and a report. Every deployment is this flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import ParameterTypeError
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import WithJsonSchema

from flows.engine.components import components
from flows.engine.run import Run
from flows.engine.stage import RunStopped
from flows.engine.stats import LAST, run_stats
from flows.engine.status import last_runs
from flows.engine.walk import Scope
from flows.orchestration.monitoring import Monitor, failed
from flows.orchestration.parameters import ConfigFile, chosen_config, parameters_of, run_name
from flows.orchestration.tasks import PrefectCrew
from flows.outcomes.exports import export
from flows.outcomes.promotion import promote
from flows.outcomes.report import reported
from flows.outcomes.retention import drop_unkept
from flows.outcomes.tracking import track
from flows.stages import STAGE_NAMES, STAGES
from ipa_core.config import ConfigError, RunConfig
from ipa_core.reporting.report import ReportData

StageName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(STAGE_NAMES)})]


@contextmanager
def finished(run: Run, show: Callable[[ReportData], None] = lambda data: None) -> Iterator[None]:
    """Do the work after the stages, which the block walks. ``show`` gets the data of a new report. A run that breaks
    off has a report too."""
    with reported(run, show):
        yield
        export(run)  # the LoRA and the shards, where people look for them
        promote(run)  # over the champion, or not
        drop_unkept(run)
    track(run)  # report and adapter, if the config names trackers


def _name() -> str:
    return run_name(flow_run.get_parameters(), STAGE_NAMES)


# JSON for each result that Prefect keeps: its default would pickle.
@flow(name="retrain", flow_run_name=_name, persist_result=False, result_serializer="json")
def retrain(
    config: RunConfig | ConfigFile | None = None,
    run: str | None = None,
    first: StageName = STAGE_NAMES[0],
    last: StageName = STAGE_NAMES[-1],
    refresh: list[StageName] | None = None,
    repeat: str | None = None,
) -> State[Any]:
    """From driving videos to an aligned LoRA with a report. Results in the store are not computed again.

    The state's data is the `RunSummary`. A run that could not go on ends as Failed with the reason as the message.

    Args:
        config: A config file, or the whole config typed out. Leave it empty to use that of an earlier run.
        run: Id of an earlier run whose config is used again. A config's name means its newest run, `last` the newest of
            all.
        first: First stage to run; those before it must be in the store.
        last: Last stage to run.
        refresh: Stages to compute again although they are in the store.
        repeat: Id of a flow run that failed. Its parameters are used again, instead of the others.
    """
    try:
        if repeat is not None:
            state: State[Any] = retrain.fn(**retrain.validate_parameters(parameters_of(repeat)))
            return state
        settings = chosen_config(config, run)
        scope = Scope(first, last, frozenset(refresh or ()))
        scope.walked(STAGES)
    except (ConfigError, RunStopped, ParameterTypeError) as error:
        return failed(str(error))
    watch = Monitor(settings.name)
    with Run(settings, STAGES, components(), scope, PrefectCrew, watch) as this, finished(this, watch.show):
        this.walk()  # clips, poses, candidates, scores, selection, shards, references, finetune, evaluation
    watch.stats(run_stats(last_runs(this.store, LAST)))
    if this.summary.error is not None:
        return failed(this.summary.error, this.summary)
    name = "NothingNew" if this.summary.status == "nothing_new" else "Completed"
    return Completed(name=name, message=this.summary.status, data=this.summary)
