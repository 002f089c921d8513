"""One run from its folder to its summary. Knows no orchestrator: a `Watch` may follow it, a `Crew` computes for it."""

from __future__ import annotations

from collections.abc import Callable

from flows.engine.components import Components
from flows.engine.progress import Progress, StageProgress
from flows.engine.run_folder import (
    Promotion,
    RunFolder,
    RunProgress,
    RunStatus,
    RunSummary,
    StageTable,
    drops,
    stage_table,
)
from flows.engine.stage import Place, RunStopped, StageName
from flows.engine.store import open_store
from flows.engine.walk import Runner, Scope
from flows.engine.work import Crew, LocalCrew
from flows.outcomes import report as reporting
from flows.outcomes.promotion import promote
from ipa_core.config import ConfigError, RunConfig
from ipa_core.reporting import ReportData
from storage import Store

MakeCrew = Callable[[Store, RunConfig, Components, Callable[[int, int], None]], Crew]


class Watch:
    """Follows a run and does nothing about it; `flows.orchestration.monitoring` has one that shows it in the Prefect UI."""

    flow_run: str | None = None
    """Id of the Prefect flow run."""

    def stage(self, name: StageName, work: Callable[[], StageTable]) -> None:
        """Call ``work``, which runs the stage."""
        work()

    def progress(self, progress: StageProgress) -> None:
        """Called from the run's threads, now and then."""

    def show(self, data: ReportData) -> None:
        """Called where there is something new to report."""

    def outcome(self, summary: RunSummary) -> None: ...

    def close(self) -> None: ...


def run_stages(
    config: RunConfig, scope: Scope, components: Components, make_crew: MakeCrew = LocalCrew, watch: Watch | None = None
) -> RunSummary:
    """Run the stages of ``scope``. A run that can't go on comes back as ``failed`` with its sentence; nothing done is
    lost."""
    watch = watch or Watch()
    store = open_store(config.execution)
    folder = RunFolder.new(store)
    folder.write_config(config)
    through: dict[StageName, StageTable] = {}

    def keep(progress: StageProgress | None) -> None:
        folder.write_progress(RunProgress(tuple(through.values()), progress, watch.flow_run))

    def listen(progress: StageProgress) -> None:
        keep(progress)
        watch.progress(progress)

    progress = Progress(listen=listen)
    runner = Runner(store, config, components, progress, make_crew(store, config, components, progress.part))

    def stage(name: StageName, work: Callable[[], None]) -> None:
        def counted() -> StageTable:
            work()
            return stage_table(runner.results, name, runner.seconds[name])

        watch.stage(name, counted)
        through[name] = stage_table(runner.results, name, runner.seconds[name])
        keep(None)
        folder.write_items(runner.results)

    outputs: dict[str, str] = {}
    try:
        runner.run(scope, stage)
        outputs = _outputs(folder, runner, store, watch)
        computed = sum(entry.status != "cached" for entries in runner.results.values() for entry in entries)
        promotion = promote(store, config, runner.results, folder.run_id)
        summary = save_summary(folder, runner, "completed" if computed else "nothing_new", None, outputs, promotion)
        if computed and config.execution.retention == "kept":
            reporting.drop_unkept(store, config, runner.results)
    except (RunStopped, ConfigError) as stop:
        summary = save_summary(folder, runner, "failed", str(stop), outputs)
    except BaseException as error:
        save_summary(folder, runner, "failed", f"{type(error).__name__}: {error}", outputs)
        raise
    finally:
        runner.close()
        watch.close()
    watch.outcome(summary)
    return summary


def is_done(config: RunConfig, scope: Scope, components: Components) -> bool:
    """Whether a run would find all that it needs in the store."""
    store, progress = open_store(config.execution), Progress(quiet=True)
    crew = _NobodyToCompute(store, config, components, progress.part)
    runner = Runner(store, config, components, progress, crew)
    try:
        runner.run(scope)
    except _ToBeComputed:
        return False
    except (RunStopped, ConfigError):
        pass  # The run comes to it too, without having computed anything.
    finally:
        runner.close()
    return True


class _ToBeComputed(Exception):  # noqa: N818 - an answer
    pass


class _NobodyToCompute(LocalCrew):
    """Ends the run at the first item that is not in the store."""

    def prepare(self, place: Place) -> None:
        raise _ToBeComputed


def _outputs(folder: RunFolder, runner: Runner, store: Store, watch: Watch) -> dict[str, str]:
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
    report = reporting.write_report(folder, runner, store, watch.show)
    if report is not None:
        outputs["report"] = report
    return outputs


_EXPORTED: tuple[StageName, StageName] = ("finetune", "shards")


def save_summary(
    folder: RunFolder,
    runner: Runner,
    status: RunStatus,
    error: str | None,
    outputs: dict[str, str],
    promotion: Promotion | None = None,
) -> RunSummary:
    summary = RunSummary(
        run_id=folder.run_id,
        status=status,
        stages=tuple(stage_table(runner.results, name, runner.seconds[name]) for name in runner.seconds),
        outputs=outputs,
        error=error,
        dropped=drops(runner.results, runner.dropped),
        promotion=promotion,
    )
    folder.write_items(runner.results)
    folder.write_summary(summary)
    return summary
