"""One run from its folder to its summary; each stage is a flow run below that of the run."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import reporting
from flows.components import Components
from flows.monitoring import Monitor
from flows.progress import Progress
from flows.runner import Runner, Scope, UpstreamChanged
from flows.runs import RunFolder, RunStatus, RunSummary, drops, stage_table
from flows.stage import RunStopped, StageName
from flows.store import open_store
from flows.tasks import PrefectCrew
from ipa_core.config import ConfigError, RunConfig
from storage import Store


def run_stages(config: RunConfig, scope: Scope, components: Components) -> RunSummary:
    """The flow's body. A run that can't go on comes back as ``failed`` with its sentence; nothing done is lost."""
    store = open_store(config.execution)
    folder = RunFolder.new(store)
    folder.write_config(config)
    monitor = Monitor(folder)
    progress = Progress(listen=monitor.progress)
    runner = Runner(store, config, components, progress, PrefectCrew(store, config, components, progress.part))
    outputs: dict[str, str] = {}

    def stage(name: StageName, work: Callable[[], None]) -> None:
        _as_flow_run(name, config.name, runner, work)
        monitor.stage(stage_table(runner.results, name, runner.seconds[name]))
        folder.write_items(runner.results)

    try:
        runner.run(scope, stage)
        outputs = _outputs(folder, runner, store)
        computed = sum(entry.status != "cached" for entries in runner.results.values() for entry in entries)
        summary = _save(folder, runner, "completed" if computed else "nothing_new", None, outputs)
        if computed:
            monitor.show(reporting.report_data(runner, store))
        if computed and config.execution.retention == "kept":
            reporting.drop_unkept(store, config, runner.results)
    except (RunStopped, ConfigError) as stop:
        summary = _save(folder, runner, "failed", str(stop), outputs)
    except BaseException as error:
        _save(folder, runner, "failed", f"{type(error).__name__}: {error}", outputs)
        raise
    finally:
        runner.close()
        monitor.close()
    monitor.outcome(summary)
    return summary


def _as_flow_run(name: StageName, run: str, runner: Runner, work: Callable[[], None]) -> None:
    """Run a stage as a flow run of its own. What ends the stage is raised here; the state only shows it."""
    ended: list[BaseException] = []

    def stage() -> State[Any]:
        try:
            work()
        except UpstreamChanged as change:
            ended.append(change)
            return Completed(name="Outdated", message=str(change))
        except (RunStopped, ConfigError) as stop:
            ended.append(stop)
            return Failed(message=str(stop))
        except BaseException as error:
            ended.append(error)
            raise
        table = stage_table(runner.results, name, runner.seconds[name])
        unchanged = not table.computed and not table.failed
        return Completed(name="Cached" if unchanged else "Completed", message=table.sentence())

    _stage.set(stage)
    stage_flow.with_options(name=name, flow_run_name=f"{name}, {run}")(return_state=True)
    if ended:
        raise ended[0]


_stage: ContextVar[Callable[[], State[Any]]] = ContextVar("stage")


@flow(name="stage", persist_result=False, result_serializer="json")
def stage_flow() -> State[Any]:
    """The stage that is under way. A flow goes to workers with its tasks, so it must not hold the run itself."""
    from flows.running import current_stage

    return current_stage()()


def current_stage() -> Callable[[], State[Any]]:
    return _stage.get()


def _outputs(folder: RunFolder, runner: Runner, store: Store) -> dict[str, str]:
    """Place what people look for into the run's folder: the LoRA, the shards, the report."""
    outputs: dict[str, str] = {}
    finetune, shards = (runner.results.one(name) if name in runner.results else None for name in _EXPORTED)
    for name, found, link in (("lora", finetune, False), ("shards", shards, True)):
        if found is None:
            continue
        runner.restore({output.digest for output in found[1].outputs.values()})
        for file, output in found[1].outputs.items():
            folder.export(output.digest, f"{name}/{file}", link=link)
        outputs[name] = folder.address(name)
    report = reporting.write_report(folder, runner, store)
    if report is not None:
        outputs["report"] = report
    return outputs


_EXPORTED: tuple[StageName, StageName] = ("finetune", "shards")


def _save(
    folder: RunFolder, runner: Runner, status: RunStatus, error: str | None, outputs: dict[str, str] | None = None
) -> RunSummary:
    summary = RunSummary(
        run_id=folder.run_id,
        status=status,
        stages=tuple(stage_table(runner.results, name, runner.seconds[name]) for name in runner.seconds),
        outputs=outputs or {},
        error=error,
        dropped=drops(runner.results, runner.dropped),
    )
    folder.write_items(runner.results)
    folder.write_summary(summary)
    return summary
