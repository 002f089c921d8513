"""`ipa bench`, `ipa sweep` and `ipa score reliability`: measure hands and measures, compare ways to train."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import CONFIGS, AsJson, Config, Overrides, writing
from flows.cli.tables import text_table
from flows.cli.talk import say
from ipa_core.config import ConfigError
from ipa_core.config_file import load_config

if TYPE_CHECKING:
    from flows.experiments.hand_bench import BenchReport
    from flows.experiments.score_calibration import Calibrated
    from ipa_core.scoring.reliability import Reliability

BENCH = CONFIGS / "bench.yaml"
score_app = typer.Typer(no_args_is_help=True, help="What the hand score can tell.")


def bench(
    model: Annotated[
        str | None, typer.Argument(help="Pipeline folder or hub id; default: the config's.", show_default=False)
    ] = None,
    lora: Annotated[
        Path | None, typer.Option(help="Folder of a LoRA (a run's `lora`), to be compared.", show_default=False)
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Also write a picture of before and after (JPEG); wants --lora.", show_default=False),
    ] = None,
    config: Annotated[Path, typer.Option(help="Run config that names the bench and says how to generate.")] = BENCH,
    set_: Overrides = None,
    json_: AsJson = False,
) -> None:
    """Measure a model on the hand bench: 100 rendered clips whose hands are exactly known, by difficulty."""
    from flows.cli.animate import lora_bytes
    from flows.engine.components import components
    from flows.experiments.hand_bench import run_bench

    chosen = [f"candidates.model.path={json.dumps(model)}"] if model else []
    settings = load_config(config, [*(set_ or []), *chosen])
    weights = lora_bytes(lora) if lora is not None else None
    if picture is not None and weights is None:
        raise ConfigError("--picture shows what an adapter changes: name one with --lora")
    if picture is not None:
        with writing("--picture", picture):
            picture.touch()
    say(f"measuring {settings.candidates.model.path} on the hand bench")
    report, shown = run_bench(settings, components(), weights)
    if picture is not None and shown is not None:
        picture.write_bytes(shown)
    print(report.model_dump_json() if json_ else bench_table(report))


def sweep(
    config: Annotated[Path, typer.Argument(help="A sweep, such as configs/paper-ablation.yaml.", show_default=False)],
    output: Annotated[
        Path, typer.Option(help="Folder for results.html, results.md with its chart, results.json.", show_default=False)
    ],
    set_: Overrides = None,
    json_: AsJson = False,
) -> None:
    """Train many arms through the same cached pipeline and compare them in one table."""
    from flows.engine.components import components
    from flows.engine.store import open_store
    from flows.experiments.sweep import load_sweep, run_sweep, sweep_page

    found = load_sweep(config)
    with writing("--output", output):
        output.mkdir(parents=True, exist_ok=True)
    say(f"sweep {found.name}: {len(found.arms)} arms")
    swept = run_sweep(found, components(), set_ or [])
    page = sweep_page(found, swept, shlex.join(["ipa", *sys.argv[1:]]))
    # The store keeps them too, for `ipa web`.
    kept = open_store(load_config(Path(found.run), set_ or []).execution).folder.below(
        f"sweeps/{datetime.now(UTC):%Y%m%d-%H%M%S}-{config.stem}"
    )
    for name, data in (
        ("results.html", page.html().encode()),
        ("results.md", page.markdown().encode()),
        ("results.json", swept.table.model_dump_json(indent=1).encode()),
        *page.charts().items(),
    ):
        (output / name).write_bytes(data)
        kept.write(name, data)
    print(json.dumps(swept.table.model_dump()) if json_ else output / "results.md")


@score_app.command()
def reliability(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Run id; default: the last run with scores.", show_default=False)
    ] = None,
    json_: AsJson = False,
) -> None:
    """Show which measures tell one clip's candidates apart, and how much choosing the best can gain. Needs no extra."""
    from dataclasses import asdict

    from flows.engine.run_folder import named_run, runs
    from flows.engine.store import existing_store
    from flows.experiments.score_reliability import run_reliability

    store = existing_store()
    scored = (folder for folder in runs(store) if folder.names("scores"))
    folder = named_run(run_id) if run_id else next(scored, None)
    if folder is None:
        raise ConfigError("no run of this store has scored candidates; `ipa run CONFIG --to scores` does that")
    found = run_reliability(folder, store)
    print(json.dumps({name: asdict(one) for name, one in found.items()}) if json_ else reliability_table(found))


@score_app.command()
def calibrate(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Run id, a config's name, or last.")],
    output: Annotated[
        Path | None, typer.Option(help="Default: calibrations/KEY.json in the store.", show_default=False)
    ] = None,
    json_: AsJson = False,
) -> None:
    """Fit the least score on the decisions of `ipa review`, for `selection.calibration`."""
    from dataclasses import asdict

    from flows.engine.run_folder import named_run
    from flows.engine.store import existing_store
    from flows.experiments.score_calibration import run_calibration

    store = existing_store()
    found = run_calibration(named_run(run_id), store)
    place, data = f"calibrations/{found.key}.json", found.calibration.to_bytes()
    if output is None:
        store.folder.write(place, data)
        file = store.folder.address(place)
    else:
        with writing("--output", output):
            output.write_bytes(data)
        file = str(output)
    about = {"file": file, "key": found.key, **found.calibration.model_dump(exclude={"judged"})}
    about |= {"before": asdict(found.before), "after": found.after and asdict(found.after)}
    print(json.dumps(about) if json_ else f"{calibration_text(found)}\n{file}")


def calibration_text(found: Calibrated) -> str:
    about, before, after = found.calibration, found.before, found.after
    accepted, clips = sum(one.kept for one in about.judged), len({one.clip_id for one in about.judged})
    low, high = about.threshold_interval
    lines = [
        f"run {about.run}: {accepted} accepted and {len(about.judged) - accepted} rejected candidates of {clips} clips",
        "people keep no score as often as not"
        if about.threshold is None
        else f"people keep a score of {about.threshold:.3f} as often as not (95 % interval {low:.3f} to "
        f"{'no such score' if high is None else f'{high:.3f}'}, clips resampled)",
        "softness: unknown, the curve does not go from 25 to 75 %"
        if about.softness is None
        else f"softness: from 25 to 75 % kept, the score rises by {about.softness:.3f}",
    ]
    for name, kept in (("before", before), ("after", after)):
        if kept is not None:
            lines.append(
                f"{name}, by the rules alone: threshold {kept.threshold:.3f} keeps {kept.candidates} of {found.of} "
                f"candidates, of {kept.clips} clips"
            )
    rows = [(f"{one.score:.3f}", f"{one.kept:.0%}", f"{one.low:.0%} to {one.high:.0%}") for one in about.curve]
    return "\n".join([text_table("rrr", ("score", "kept", "95 %"), rows), *lines])


@score_app.command()
def preview(
    config: Config,
    clips: Annotated[int, typer.Option(min=1, help="Training clips, chosen by a hash of their content.")] = 8,
    candidates: Annotated[int, typer.Option(min=2, help="Candidates of each clip.")] = 8,
    shift: Annotated[
        list[float] | None, typer.Option(help="Also with this candidates.shift.", show_default=False)
    ] = None,
    steps: Annotated[
        list[int] | None, typer.Option(help="Also a first pass of so few steps.", show_default=False)
    ] = None,
    unguided: Annotated[bool, typer.Option(help="Also without guidance.")] = False,
    guidance_until: Annotated[
        list[float] | None, typer.Option(help="Also with this candidates.guidance_until.", show_default=False)
    ] = None,
    lora: Annotated[
        Path | None, typer.Option(help="Also with this step-distilled LoRA, unguided.", show_default=False)
    ] = None,
    lora_steps: Annotated[int, typer.Option(min=1, help="Steps with the LoRA.")] = 4,
    set_: Overrides = None,
    json_: AsJson = False,
) -> None:
    """Show what early rejection (candidates.early) would cost and save on the config's model, on a few clips.

    It generates all candidates to the end, scores previews of them on the way, and replays every setting. The last
    table compares it with the other ways to spend half of the cost.
    """
    from dataclasses import asdict

    from flows.engine.components import components
    from flows.experiments.preview_tables import tables, verdict
    from flows.experiments.score_preview import calibrate
    from ipa_core.config import LoraFile

    found = calibrate(
        load_config(config, set_ or []),
        components(),
        clips,
        candidates,
        shifts=shift or (),
        few_steps=steps or (),
        unguided=unguided,
        guidance_until=guidance_until or (),
        lora=None if lora is None else LoraFile(path=str(lora)),
        lora_steps=lora_steps,
    )
    if json_:
        print(json.dumps(asdict(found)))
        return
    for caption, align, head, rows in tables(found):
        print(f"{caption}\n{text_table(align, head, rows)}\n")
    print("\n".join(verdict(found)))


def bench_table(report: BenchReport) -> str:
    from ipa_core.evaluation.differences import with_interval

    head = ("class", "model", "clips", "PSNR", "SSIM", "PSNR-Hand", "SSIM-Hand", "point error", "hand score", "found")
    rows = [
        (
            *(row.difficulty, row.model, str(row.clips), _text(row.psnr, ".2f"), _text(row.ssim)),
            *(_text(row.psnr_hand, ".2f"), _text(row.ssim_hand), _text(row.keypoint_error)),
            *(_text(row.hand_score), _text(row.hands_found)),
        )
        for row in report.rows
    ]
    lines = [text_table("llrrrrrrrr", head, rows)]
    if report.left_out:
        lines.append(f"left out, nobody was found in the driving video: {', '.join(report.left_out)}")
    for name, gain in report.gains.items():
        lines.append(f"{name}: {with_interval(gain.mean, gain.interval, '+.3f')}, wins {gain.win_rate:.0%}")
    return "\n".join(lines)


def reliability_table(found: dict[str, Reliability]) -> str:
    head = ("measure", "mean", "spread", "share", "split-half", "95 %", "best", "95 %", "most")
    rows = [
        (
            *(name, _text(one.mean), _text(one.spread), _text(one.within_share, ".0%"), _text(one.split_half, "+.2f")),
            *(_bounds(one.interval, "+.2f"), _text(one.gain, "+.3f"), _bounds(one.gain_interval, "+.3f")),
            _text(one.most, "+.3f"),
        )
        for name, one in sorted(found.items(), key=lambda item: -(item[1].split_half or -2))
        if one.clips
    ]
    some = max(found.values(), key=lambda one: one.candidates)
    legend = (
        f"{some.candidates} candidates of {some.clips} clips. Spread: standard deviation between candidates of one "
        "clip; share: theirs of the variance. Split-half: even against odd frames, differences from the clip's mean. "
        "Best: each clip's best by hand score over the mean of its clip; most: its best by the measure itself."
    )
    return f"{text_table('lrrrrlrlr', head, rows)}\n{legend}"


def _bounds(interval: tuple[float, float] | None, form: str) -> str:
    return "" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"


def _text(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)
