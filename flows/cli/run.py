"""`ipa demo`, `ipa run` and `ipa plan`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import DEMO, AsJson, Config, Overrides, Videos, run_config, writing
from flows.cli.tables import text_table
from flows.cli.talk import say
from flows.engine.stage import RunStopped
from ipa_core.config import ConfigError, RunConfig
from ipa_core.config_file import load_config

if TYPE_CHECKING:
    from flows.engine.summary import RunSummary, StageTable


def _stage(name: str) -> str:
    from flows.stages import STAGE_NAMES

    if name not in STAGE_NAMES:
        raise typer.BadParameter(f"{name}: the stages are {', '.join(STAGE_NAMES)}")
    return name


def demo(
    workdir: Annotated[Path | None, typer.Option(help="Where the store goes; default: the working directory.")] = None,
    json_: AsJson = False,
) -> None:
    """Run the whole chain on the clips and the small model that come with the project."""
    if workdir is not None:
        with writing("--workdir", workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            os.chdir(workdir)
    _run(load_config(DEMO), None, None, [], json_)


def run(
    config: Config,
    videos: Videos = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="First stage to run; those before must be in the store.", parser=_stage)
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Last stage to run.", parser=_stage)] = None,
    only: Annotated[str | None, typer.Option("--only", help="--from and --to in one.", parser=_stage)] = None,
    refresh: Annotated[
        list[str] | None, typer.Option("--refresh", help="Compute a stage again although it is cached.", parser=_stage)
    ] = None,
    set_: Overrides = None,
    json_: AsJson = False,
) -> None:
    """Videos in, an aligned LoRA and a report out. Results in the store are not computed again."""
    if only is not None and (from_ or to):
        raise typer.BadParameter("--only can't be combined with --from or --to")
    _run(run_config(config, videos, set_), only or from_, only or to, refresh or [], json_)


def _run(config: RunConfig, first: str | None, last: str | None, refresh: list[str], json_: bool) -> None:
    from flows.engine.walk import Scope
    from flows.stages import STAGES

    scope = Scope(first, last, frozenset(refresh))
    scope.walked(STAGES)
    _check(config, scope)
    say(f"{config.name}: looking up what is in the store")
    summary = _retrain(config, scope)
    if json_:
        print(json.dumps(_run_json(summary)))
    else:
        _print_run(summary)
    if summary.error is not None:
        print(f"ipa: {summary.error}", file=sys.stderr)
        raise typer.Exit(1)


def _check(config: RunConfig, scope: Any) -> None:
    """Raise ``ConfigError`` as the run would, before there is a server or a record."""
    from flows.engine.components import components
    from flows.engine.inputs import RunInputs
    from flows.engine.store import open_store
    from flows.engine.view import View
    from flows.stages import STAGES

    store = open_store(config.execution)
    view = View(config, RunInputs(store, config, components()))
    for stage in scope.walked(STAGES):
        stage.check(view)
    store.digests.save()


def _retrain(config: RunConfig, scope: Any) -> RunSummary:
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    started = time.perf_counter()
    from flows.orchestration.server import is_configured

    # A server for this run alone would take longer to start than to find everything in the store.
    alone = not is_configured() and _is_done(config, scope)
    summary = _cached_run(config, scope) if alone else _flow_run(config, scope)
    say(_orchestration(summary, time.perf_counter() - started))
    return summary


def _is_done(config: RunConfig, scope: Any) -> bool:
    from flows.engine.components import components
    from flows.engine.inputs import RunInputs
    from flows.engine.store import open_store
    from flows.engine.view import View
    from flows.engine.walk import nothing_to_compute
    from flows.stages import STAGES

    store = open_store(config.execution)
    try:
        return nothing_to_compute(View(config, RunInputs(store, config, components())), STAGES, scope)
    except (RunStopped, ConfigError):
        return True  # The run stops there too, before it computes anything.
    finally:
        store.digests.save()


def _cached_run(config: RunConfig, scope: Any) -> RunSummary:
    from flows.engine.components import components
    from flows.engine.run import Run
    from flows.retrain import finished
    from flows.stages import STAGES

    with Run(config, STAGES, components(), scope) as run, finished(run):
        run.walk()
    return run.summary


def _flow_run(config: RunConfig, scope: Any) -> RunSummary:
    from flows.engine.summary import RunSummary
    from flows.orchestration.monitoring import RunFailed
    from flows.orchestration.server import prefect_server
    from flows.retrain import retrain
    from flows.stages import STAGE_NAMES

    with prefect_server():
        state = retrain(
            config,
            first=scope.first or STAGE_NAMES[0],
            last=scope.last or STAGE_NAMES[-1],
            refresh=sorted(scope.refresh),
            return_state=True,
        )
    found = state.result(raise_on_failure=False)
    summary = found.summary if isinstance(found, RunFailed) else found
    if not isinstance(summary, RunSummary):
        raise RunStopped(str(state.message))
    return summary


def _orchestration(summary: RunSummary, total: float) -> str:
    stages = sum(row.seconds for row in summary.stages)
    return f"{total:.1f} s in all: {stages:.1f} s in stages, {total - stages:.1f} s for Prefect, imports and the report"


def _run_json(summary: RunSummary) -> dict[str, Any]:
    whole = summary.to_json()
    return {name: whole[name] for name in ("run_id", "status", "stages", "outputs", "promotion", "error")}


def _print_run(summary: RunSummary) -> None:
    print(f"run {summary.run_id}: {summary.status}")
    print_stages(summary.stages)
    print_outputs(summary.outputs)
    if summary.promotion is not None:
        print(summary.promotion.sentence())


def print_stages(stages: tuple[StageTable, ...]) -> None:
    rows = [
        (row.name, *map(str, (row.items, row.cached, row.computed, row.rejected, row.failed)), f"{row.seconds:.1f}")
        for row in stages
    ]
    head = ("stage", "items", "cached", "computed", "rejected", "failed", "seconds")
    print(text_table("lrrrrrr", head, rows))


def print_outputs(outputs: dict[str, str]) -> None:
    for name, path in outputs.items():
        print(f"{name}: {path}")


def plan(
    config: Config,
    videos: Videos = None,
    clips: Annotated[
        int | None,
        typer.Option(min=1, help="Plan for so many new clips, without looking at videos.", show_default=False),
    ] = None,
    set_: Overrides = None,
    json_: AsJson = False,
) -> None:
    """Show what a run would compute, why, and what it costs. Computes nothing, and needs no weights."""
    from flows.cli.plan_text import plan_text
    from flows.engine.components import components
    from flows.engine.plan import plan_run
    from flows.engine.store import open_store
    from flows.stages import STAGES

    settings = run_config(config, videos, set_)
    found = plan_run(open_store(settings.execution, make=False), settings, STAGES, components(), clips)
    print(json.dumps(found.to_json()) if json_ else plan_text(found, settings.execution))
