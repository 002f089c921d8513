"""The whole run as a Prefect flow: videos in, an aligned LoRA and a report out. Every deployment is this flow."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import WithJsonSchema

from flows.engine.components import Components, components
from flows.engine.run import Run, Watch
from flows.engine.run_folder import RunSummary
from flows.engine.stage import RunStopped
from flows.engine.walk import Scope
from flows.engine.work import MakeCrew
from flows.orchestration.monitoring import Monitor
from flows.orchestration.parameters import ConfigFile, chosen_config, run_name
from flows.orchestration.tasks import PrefectCrew
from flows.outcomes.exports import export
from flows.outcomes.promotion import promote
from flows.outcomes.report import write_report
from flows.outcomes.retention import drop_unkept
from flows.stages import STAGE_NAMES, STAGES
from ipa_core.config import ConfigError, RunConfig

StageName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(STAGE_NAMES)})]


def whole_run(
    config: RunConfig, scope: Scope, parts: Components, crew: MakeCrew | None = None, watch: Watch | None = None
) -> RunSummary:
    """Run the stages and see to their results; without a watch and another crew, no Prefect is needed."""
    watch = watch or Watch()
    with Run(config, STAGES, parts, scope, crew, watch) as run:
        run.walk()  # clips, poses, candidates, scores, selection, shards, references, finetune, evaluation
        export(run)  # the LoRA and the shards, where people look for them
        write_report(run, watch.show)
        promote(run)  # over the champion, or not
        drop_unkept(run)
    return run.summary


def _name() -> str:
    return run_name(flow_run.get_parameters(), STAGE_NAMES)


# JSON wherever Prefect keeps a result: its default would pickle.
@flow(name="retrain", flow_run_name=_name, persist_result=False, result_serializer="json")
def retrain(
    config: RunConfig | ConfigFile | None = None,
    run: str | None = None,
    first: StageName = STAGE_NAMES[0],
    last: StageName = STAGE_NAMES[-1],
    refresh: list[StageName] | None = None,
) -> State[Any]:
    """From driving videos to an aligned LoRA with a report. What is in the store is not computed again.

    The state's data is the `RunSummary`; a run that could not go on ends as Failed with its sentence as the message.

    Args:
        config: A config file, or the whole config typed out. Leave it empty to use that of an earlier run.
        run: Id of an earlier run whose config is used again; `last` is the newest.
        first: First stage to run; those before it must be in the store.
        last: Last stage to run.
        refresh: Stages to compute again although they are in the store.
    """
    try:
        settings = chosen_config(config, run)
        scope = Scope(first, last, frozenset(refresh or ()))
        scope.walked(STAGES)
    except (ConfigError, RunStopped) as error:
        return Failed(message=str(error))
    summary = whole_run(settings, scope, components(), PrefectCrew, Monitor(settings.name))
    if summary.error is not None:
        return Failed(message=summary.error, data=summary)
    return Completed(message=summary.status, data=summary)
