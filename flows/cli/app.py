"""The `ipa` command: results on stdout, progress and errors on stderr, `--json` where a script would read it."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from flows.cli.experiments import bench, sweep
from flows.cli.models import models_app
from flows.cli.review import review_app
from flows.cli.score import score_app
from flows.engine.stage import RunStopped
from flows.stages import STAGE_NAMES, STAGES
from ipa_core.config import ConfigError, RunConfig, load_config
from ipa_core.records import Rejected

if TYPE_CHECKING:
    from flows.engine.run_folder import RunSummary, StageTable

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
store_app = typer.Typer(no_args_is_help=True, help="Look after the store.")
app.add_typer(store_app, name="store")
app.add_typer(models_app, name="models")
app.add_typer(score_app, name="score")
app.add_typer(review_app, name="review")
app.command()(bench)
app.command()(sweep)

Config = Annotated[Path, typer.Argument(help="A run config, such as configs/demo.yaml.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Change a field of the config; VALUE is YAML.", show_default=False
    ),
]
STAGE = click.Choice(STAGE_NAMES)
DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"


@app.command()
def demo(
    workdir: Annotated[Path | None, typer.Option(help="Where the store goes; default: the working directory.")] = None,
    json_: AsJson = False,
) -> None:
    """Run the whole chain on the clips and the small model that come with the project."""
    if workdir is not None:
        workdir.mkdir(parents=True, exist_ok=True)
        os.chdir(workdir)
    _run(load_config(DEMO), None, None, [], json_)


@app.command()
def run(
    config: Config,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="First stage to run; those before it must be complete in the store.",
            click_type=STAGE,
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Last stage to run.", click_type=STAGE, show_default=False)
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="--from and --to in one.", click_type=STAGE, show_default=False)
    ] = None,
    refresh: Annotated[
        list[str] | None,
        typer.Option(
            "--refresh",
            help="Compute a stage again although it is cached.",
            click_type=STAGE,
            show_default=False,
        ),
    ] = None,
    set_: Overrides = None,
    json_: AsJson = False,
) -> None:
    """Videos in, an aligned LoRA and a report out. What is in the store is not computed again."""
    if only is not None and (from_ or to):
        raise typer.BadParameter("--only can't be combined with --from or --to")
    _run(load_config(config, set_), only or from_, only or to, refresh or [], json_)


def _run(config: RunConfig, first: str | None, last: str | None, refresh: list[str], json_: bool) -> None:
    from flows.engine.walk import Scope

    scope = Scope(first, last, frozenset(refresh))
    scope.walked(STAGES)
    _check_weights(config, scope)
    summary = _retrain(config, scope)
    if json_:
        print(json.dumps(_run_json(summary)))
    else:
        _print_run(summary)
    if summary.error is not None:
        print(f"ipa: {summary.error}", file=sys.stderr)
        raise typer.Exit(1)


def _check_weights(config: RunConfig, scope: Any) -> None:
    """Missing weights are said before any work starts."""
    from flows.engine.components import Components

    if any(stage.place in ("gpu", "train") for stage in scope.walked(STAGES)):
        Components().model_folder(config.candidates.model)


def _retrain(config: RunConfig, scope: Any) -> RunSummary:
    # On the terminal; the UI gets it all.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    started = time.perf_counter()
    from flows.engine.components import components
    from flows.orchestration.server import is_configured
    from flows.retrain import whole_run

    # A server that is there only for this run would take longer to start than to find everything in the store.
    alone = not is_configured() and _is_done(config, scope)
    summary = whole_run(config, scope, components()) if alone else _flow_run(config, scope)
    print(_orchestration(summary, time.perf_counter() - started), file=sys.stderr)
    return summary


def _is_done(config: RunConfig, scope: Any) -> bool:
    from flows.engine.components import components
    from flows.engine.inputs import RunInputs
    from flows.engine.store import open_store
    from flows.engine.view import View
    from flows.engine.walk import nothing_to_compute

    store = open_store(config.execution)
    try:
        return nothing_to_compute(View(config, RunInputs(store, config, components())), STAGES, scope)
    except (RunStopped, ConfigError):
        return True  # The run comes to it too, without having computed anything.
    finally:
        store.digests.save()


def _flow_run(config: RunConfig, scope: Any) -> RunSummary:
    from flows.engine.run_folder import RunSummary
    from flows.orchestration.server import prefect_server
    from flows.retrain import retrain

    with prefect_server():
        state = retrain(
            config,
            first=scope.first or STAGE_NAMES[0],
            last=scope.last or STAGE_NAMES[-1],
            refresh=sorted(scope.refresh),
            return_state=True,
        )
    summary = state.result(raise_on_failure=False)
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
    _print_stages(summary.stages)
    _print_outputs(summary.outputs)
    if summary.promotion is not None:
        print(summary.promotion.sentence())


def _print_stages(stages: tuple[StageTable, ...]) -> None:
    print(f"{'stage':<12}{'items':>7}{'cached':>8}{'computed':>10}{'rejected':>10}{'failed':>8}{'seconds':>9}")
    for row in stages:
        counts = f"{row.items:>7}{row.cached:>8}{row.computed:>10}{row.rejected:>10}{row.failed:>8}"
        print(f"{row.name:<12}{counts}{row.seconds:>9.1f}")


def _print_outputs(outputs: dict[str, str]) -> None:
    for name, path in outputs.items():
        print(f"{name}: {path}")


@app.command()
def plan(
    config: Config,
    clips: Annotated[
        int | None,
        typer.Option(min=1, help="Plan for so many new clips, without looking at videos.", show_default=False),
    ] = None,
    set_: Overrides = None,
    json_: AsJson = False,
) -> None:
    """What a run would compute, why, and what it costs. Computes nothing, and needs no weights."""
    from flows.cli.plan_text import plan_text
    from flows.engine.components import Components
    from flows.engine.plan import plan_run
    from flows.engine.store import open_store

    settings = load_config(config, set_)
    found = plan_run(open_store(settings.execution), settings, STAGES, Components(), clips)
    print(json.dumps(found.to_json()) if json_ else plan_text(found, settings.execution))


@app.command()
def animate(
    reference: Annotated[Path, typer.Option(help="Picture of the person to animate.")],
    driving: Annotated[Path, typer.Option(help="Video whose motion is taken.")],
    output: Annotated[Path, typer.Option(help="The mp4 to write.")],
    lora: Annotated[Path | None, typer.Option(help="Folder of an aligned LoRA (a run's `lora`).")] = None,
    model: Annotated[str | None, typer.Option(help="Pipeline folder or hub id; default: the config's.")] = None,
    config: Annotated[Path, typer.Option(help="Run config that says how to generate.")] = DEMO,
    prompt: Annotated[str | None, typer.Option(help="Default: the config's clips.prompt.")] = None,
    seed: int = 0,
    set_: Overrides = None,
) -> None:
    """Animate a reference picture with the motion of a driving video."""
    from flows.cli.animate import animate_clip

    overrides = [
        *(set_ or []),
        *([f"candidates.model.path={Path(model).resolve() if Path(model).exists() else model}"] if model else []),
    ]
    settings = load_config(config, overrides)
    animate_clip(settings, reference, driving, output, lora=lora, prompt=prompt, seed=seed)
    print(output)


@app.command()
def report(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Run id; default: the last run with a report.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """Print where a run's report is; of a store behind a URL, where the copy on this machine is."""
    from flows.engine.run_folder import RunFolder, runs
    from flows.engine.store import open_store

    store = open_store()
    for folder in [RunFolder(store, run_id)] if run_id else runs(store):
        path = folder.local_copy("report.html")
        if path is not None:
            address = folder.address("report.html")
            if address != str(path):
                print(f"a copy of {address}", file=sys.stderr)
            print(json.dumps({"run_id": folder.run_id, "report": str(path), "address": address}) if json_ else path)
            return
    raise ConfigError(f"there is no report of run {run_id}" if run_id else "no run of this store has a report yet")


@app.command()
def status(
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="Run id; default: the last runs.")] = None,
    json_: AsJson = False,
) -> None:
    """How far runs are and how they ended."""
    from flows.engine.run_folder import named_run
    from flows.engine.status import last_runs, run_state
    from flows.engine.store import open_store

    found = [run_state(named_run(run_id))] if run_id else last_runs(open_store(), 10)
    if json_:
        print(json.dumps([state.to_json() for state in found]))
        return
    if not found:
        print("no run yet", file=sys.stderr)
    for state in found:
        print(f"{state.run_id}  {state.config:<16} {state.state:<12} {state.sentence()}")
        if run_id or state.progress is not None:
            _print_stages(state.stages)
    if run_id:
        _print_outputs(found[0].outputs)


@app.command("yield")
def yield_(
    plot: Annotated[
        Path | None, typer.Option(help="Also write a chart of the four cases (SVG).", show_default=False)
    ] = None,
    json_: AsJson = False,
) -> None:
    """What came of the candidates, run by run: good ones, kept ones, and the pairs that DPO would have had."""
    from flows.engine.store import open_store
    from flows.outcomes.yields import run_yields, yield_table

    found = run_yields(open_store())
    if plot is not None:
        from ipa_core.reporting.charts import yield_picture

        if not found:
            raise ConfigError("there is nothing to plot: no run of this store has come to its selection")
        plot.write_bytes(yield_picture(found))
        print(f"chart: {plot}", file=sys.stderr)
    print(json.dumps([entry.model_dump() for entry in found]) if json_ else yield_table(found))


@app.command()
def serve() -> None:
    """Serve the deployments from this process: one machine, no work pool. Needs a Prefect server."""
    from flows.orchestration.serving import serve_here

    serve_here()


@app.command()
def synth(
    output: Annotated[Path, typer.Option(help="Folder for the videos and metadata.csv.")],
    count: int = 12,
    seed: int = 0,
    size: int = 256,
    frames: int = 24,
    fps: float = 16.0,
) -> None:
    """Render driving videos of people with articulated hands."""
    from flows.engine.progress import Progress
    from ipa_core.people.dataset import render_clips

    render_clips(output, count, seed=seed, size=size, frames=frames, fps=fps, progress=Progress().share)
    print(output)


@app.command()
def pretrain(
    config: Annotated[Path, typer.Argument(help="configs/pretrain.yaml")],
    output: Annotated[Path, typer.Option(help="Folder for the pipeline.")],
    workdir: Annotated[Path, typer.Option(help="Rendered clips and checkpoints; kept, so that it resumes.")] = Path(
        ".ipa/pretrain"
    ),
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Train the small base model from scratch on rendered clips; resumes where it was."""
    from flows.engine.progress import Progress
    from ipa_core.pretraining.config import load_pretrain_config
    from ipa_core.pretraining.pretrain import pretrain as train

    found = train(load_pretrain_config(config), workdir, output, device=device, progress=Progress().share)
    print(json.dumps(asdict(found), default=str))


@store_app.command("stat")
def store_stat(json_: AsJson = False) -> None:
    """What the store holds."""
    from flows.engine.store import open_store
    from storage.maintenance import stat

    found = asdict(stat(open_store()))
    if json_:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name}: {value}")


@store_app.command("verify")
def store_verify(json_: AsJson = False) -> None:
    """Read every object and compare it with its digest; damaged ones are set aside and computed again when needed."""
    from flows.engine.progress import Progress
    from flows.engine.store import open_store
    from storage.maintenance import verify

    progress = Progress()
    found = verify(open_store(), lambda done, total: progress.share("store verify", done / total if total else 1.0))
    if json_:
        print(json.dumps(asdict(found)))
    else:
        print(f"{found.objects} objects read, {len(found.corrupt)} damaged")
        for digest in found.corrupt:
            print(f"damaged, moved to the quarantine: {digest}")
        for action in found.incomplete:
            print(f"bytes missing: {action.stage} {action.key}")
    if found.corrupt:
        raise typer.Exit(1)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """What the user can mend is said in one sentence on stderr, without a traceback."""
    from ipa_core.models.location import MissingModel
    from storage import StoreError

    try:
        yield
    except (ConfigError, RunStopped, StoreError, Rejected, MissingModel) as error:
        print(f"ipa: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def main() -> None:
    for name in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(name, "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)  # Below that, lines are for the log of the Prefect run.
    with _one_sentence():
        app(standalone_mode=True)


if __name__ == "__main__":
    main()
