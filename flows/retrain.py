"""The whole run on one screen: videos in, an aligned LoRA and a report out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import monitoring, reporting
from flows.components import Components
from flows.progress import Progress
from flows.promotion import promote
from flows.runner import Runner, Scope
from flows.runs import RunFolder, RunStatus, RunSummary, drops, stage_table
from flows.stage import RunStopped, StageName
from flows.store import open_store
from flows.workbench import Outcome
from ipa_core.config import ConfigError, RunConfig
from storage import Store


# JSON wherever Prefect keeps a result: its default would pickle.
@flow(
    name="retrain",
    flow_run_name="retrain {config.name}",
    persist_result=False,
    result_serializer="json",
    validate_parameters=False,
)
def retrain(config: RunConfig, scope: Scope | None = None, components: Components | None = None) -> State[Any]:
    """Run the stages of ``scope`` (default: all). The state's data is the :class:`RunSummary`; a run that could not go
    on ends as Failed with its sentence as the message."""
    summary = run_stages(config, scope or Scope(), components or Components(), Progress())
    monitoring.publish(summary)
    if summary.error is not None:
        return Failed(message=summary.error, data=summary)
    return Completed(message=summary.status, data=summary)


def run_stages(config: RunConfig, scope: Scope, components: Components, progress: Progress) -> RunSummary:
    """The flow's body. A run that can't go on comes back as ``failed`` with its sentence; nothing done is lost."""
    store = open_store(config.execution)
    folder = RunFolder.new(store)
    folder.write_config(config)
    runner = Runner(store, config, components, progress, _carry)
    try:
        runner.run(scope, after_stage=lambda _: folder.write_items(runner.results))
        outputs = _outputs(folder, runner, store)
        computed = sum(entry.status != "cached" for entries in runner.results.values() for entry in entries)
        summary = _save(folder, runner, "completed" if computed else "nothing_new", None, outputs)
        summary = replace(summary, promotion=promote(store, config, runner.results, folder.run_id))
        folder.write_summary(summary)
        if computed and config.execution.retention == "kept":
            reporting.drop_unkept(store, config, runner.results)
    except (RunStopped, ConfigError) as stop:
        summary = _save(folder, runner, "failed", str(stop))
    except BaseException as error:
        _save(folder, runner, "failed", f"{type(error).__name__}: {error}")
        raise
    finally:
        runner.close()
    return summary


def _carry(label: str, work: Callable[[], list[Outcome]]) -> list[Outcome]:
    return batch(label, work)


@task(name="batch", task_run_name="{label}", cache_policy=NO_CACHE, persist_result=False, result_serializer="json")
def batch(label: str, work: Callable[[], list[Outcome]]) -> list[Outcome]:
    """One batch of items; Prefect shows it, the store remembers it."""
    started = time.perf_counter()
    outcomes = work()
    failed = [outcome.error for outcome in outcomes if outcome.error]
    logger = get_run_logger()
    logger.info("%d items in %.1f s", len(outcomes), time.perf_counter() - started)
    for error in failed:
        logger.warning("failed: %s", error)
    return outcomes


def _outputs(folder: RunFolder, runner: Runner, store: Store) -> dict[str, str]:
    """Place what people look for into the run's folder: the LoRA, the shards, the report."""
    outputs: dict[str, str] = {}
    finetune, shards = (runner.results.one(name) if name in runner.results else None for name in _EXPORTED)
    for name, found, link in (("lora", finetune, False), ("shards", shards, True)):
        if found is None:
            continue
        runner.restore({output.digest for output in found[1].outputs.values()})
        for file, output in found[1].outputs.items():
            folder.export(store, output.digest, f"{name}/{file}", link=link)
        outputs[name] = str(folder.path / name)
    report = reporting.write_report(folder, runner, store)
    if report is not None:
        outputs["report"] = str(report)
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
