"""`ipa animate`, `ipa report`, `ipa status` and `ipa yield`: use and see the results of runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import DEMO, AsJson, Overrides, writing
from flows.cli.run import print_outputs, print_stages
from flows.cli.tables import text_table
from flows.cli.talk import say
from ipa_core.config import ConfigError
from ipa_core.config_file import load_config

if TYPE_CHECKING:
    from flows.engine.stage import Drop
    from ipa_core.reporting.charts import RunYield
    from storage import Store


def animate(
    reference: Annotated[
        Path, typer.Option(help="Picture of the person to animate.", exists=True, dir_okay=False, readable=True)
    ],
    driving: Annotated[
        Path, typer.Option(help="Video whose motion is taken.", exists=True, dir_okay=False, readable=True)
    ],
    output: Annotated[Path, typer.Option(help="The mp4 to write.", dir_okay=False)],
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER[:WEIGHT]",
            help="Folder of a LoRA (a run's `lora`) or its file; several add up.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Pipeline folder or hub id; default: the config's.")] = None,
    config: Annotated[Path, typer.Option(help="Run config that says how to generate.")] = DEMO,
    prompt: Annotated[str | None, typer.Option(help="Default: the config's clips.prompt.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; default: the config's.", min=1)] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale, 1 for none; default: the config's.", min=1)
    ] = None,
    shift: Annotated[float | None, typer.Option(help="Shift of the noise levels; default: the config's.")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="The whole driving video, in segments; default: its first clip.")
    ] = False,
    overlap: Annotated[int, typer.Option(help="Frames that two segments share: 1 or 5.")] = 5,
    retarget: Annotated[
        bool, typer.Option("--retarget", help="Move with the proportions of the person in the reference.")
    ] = False,
    seed: int = 0,
    set_: Overrides = None,
) -> None:
    """Animate a reference picture with the motion of a driving video."""
    from flows.cli.animate import Request, animate_clip

    if output.suffix.lower() != ".mp4":
        raise typer.BadParameter(f"--output {output}: only mp4 can be written; end its name in .mp4")
    own = {"model.path": model, "steps": steps, "guidance_scale": guidance, "shift": shift}
    overrides = [f"candidates.{name}={json.dumps(value)}" for name, value in own.items() if value is not None]
    settings = load_config(config, [*(set_ or []), *overrides])
    asked = Request(reference, driving, output, tuple(lora or ()), prompt, seed, whole, overlap, retarget)
    animate_clip(settings, asked)
    print(output)


def report(
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="Run id; default: the last run.")] = None,
    json_: AsJson = False,
) -> None:
    """Print the path of a run's report; for a store behind a URL, the path of the copy on this machine."""
    from flows.engine.run_folder import LAST, named_run
    from flows.engine.store import existing_store
    from flows.outcomes.report import report_of

    folder = named_run(run_id or LAST)
    path, state = report_of(folder, existing_store())
    address = folder.address("report.html")
    if address != str(path):
        say(f"a copy of {address}")
    if state.state not in ("completed", "nothing_new"):
        print(f"run {folder.run_id}: {state.state}: {state.sentence()}", file=sys.stderr)
    about = {"run_id": folder.run_id, "state": state.state, "report": str(path), "address": address}
    print(json.dumps(about) if json_ else path)


def status(
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="Run id; default: the last runs.")] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Show failures, waiting and hours by stage over the last runs.")
    ] = False,
    json_: AsJson = False,
) -> None:
    """Show how far runs are and how they ended, the newest first."""
    from flows.engine.run_folder import named_run
    from flows.engine.status import last_runs, run_state
    from flows.engine.store import existing_store

    if stats:
        if run_id:
            raise typer.BadParameter("--stats is over all runs: leave out RUN")
        _print_stats(json_)
        return
    chosen = named_run(run_id) if run_id else None
    store = existing_store()
    found = [run_state(chosen)] if chosen else last_runs(store, 10)
    if json_:
        print(json.dumps([state.to_json() for state in found]))
        return
    if not found:
        _say_empty(store)
    for state in found:
        print(f"{state.run_id}  {state.config:<16} {state.state:<12} {state.sentence()}")
        if chosen or state.progress is not None:
            print_stages(state.stages)
    if chosen:
        print_outputs(found[0].outputs)
        _print_dropped(chosen.dropped())


def _say_empty(store: Store) -> None:
    print(f"the store at {store.address} has no run yet", file=sys.stderr)


def _print_stats(json_: bool) -> None:
    from flows.engine.stats import LAST, STAGE_HEAD, run_stats
    from flows.engine.status import last_runs
    from flows.engine.store import existing_store

    store = existing_store()
    found = run_stats(last_runs(store, LAST))
    if json_:
        print(json.dumps(found.to_json()))
    elif not found.runs:
        _say_empty(store)
    else:
        print("\n".join(found.sentences()))
        print(text_table("l" + "r" * (len(STAGE_HEAD) - 1), STAGE_HEAD, found.rows()))


def _print_dropped(dropped: Sequence[Drop]) -> None:
    """Print each reason once with its number of inputs, and the first of them."""
    from ipa_core.reporting.reasons import without_numbers

    alike: dict[tuple[str, str], list[Drop]] = {}
    for drop in dropped:
        alike.setdefault((drop.stage, without_numbers(drop.reason)), []).append(drop)
    rows = [
        (stage, str(len(found)), found[0].name, reason if len(found) > 1 else found[0].reason)
        for (stage, reason), found in alike.items()
    ]
    if rows:
        print(text_table("lrll", ("stage", "dropped", "the first", "reason"), rows))


def yield_(
    plot: Annotated[
        Path | None, typer.Option(help="Also write a chart of the four cases (SVG).", show_default=False)
    ] = None,
    json_: AsJson = False,
) -> None:
    """Show each run's yield, the newest first: good candidates, kept ones, and the pairs that DPO would have had."""
    from flows.engine.store import existing_store
    from flows.outcomes.yields import run_yields

    store = existing_store()
    found = run_yields(store)
    if plot is not None:
        from ipa_core.reporting.charts import yield_chart

        if not found:
            raise ConfigError(
                f"there is nothing to plot: no run of the store at {store.address} has come to its selection"
            )
        with writing("--plot", plot):
            plot.write_bytes(yield_chart(found[::-1]))  # The time runs to the right.
        say(f"chart: {plot}")
    if json_:
        print(json.dumps([entry.model_dump() for entry in found]))
    elif found:
        print(yield_table(found))
    else:
        print(f"no run of the store at {store.address} has come to its selection", file=sys.stderr)


def yield_table(found: Sequence[RunYield]) -> str:
    """Return a line per run; cases 1 to 4 are pairs of one clip's candidates."""
    head = (
        *(
            "run",
            "config",
            "no hands",
            "given up",
            "clips",
            "stopped",
            "candidates",
            "good",
            "bad",
            "unscorable",
            "kept",
        ),
        *("1 both good", "2 both bad", "3 mixed", "4 strict", "clips with 4"),
    )
    return text_table("ll" + "r" * 14, head, [_yield_row(entry) for entry in found])


def _yield_row(entry: RunYield) -> tuple[str, ...]:
    report, left = entry.report, entry.left_out
    no_hands, given_up, stopped = ("?",) * 3 if left is None else (left.no_hands, left.given_up, left.stopped)
    counts = (
        *(no_hands, given_up, report.clips, stopped),
        *(report.candidates, report.good, report.bad, report.unscorable, report.kept),
    )
    pairs = (report.both_good_pairs, report.both_bad_pairs, report.mixed_pairs, report.strict_pairs)
    return entry.run, entry.config, *(str(count) for count in (*counts, *pairs, report.clips_with_strict_pair))
