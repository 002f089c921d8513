"""`ipa bench` and `ipa sweep`: how good a model's hands are, and experiments on how to train."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

BENCH = Path(__file__).resolve().parents[2] / "configs" / "bench.yaml"
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the config.", show_default=False),
]


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
    json_: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """A model on the hand bench: 100 rendered clips whose hands are exactly known, by difficulty."""
    from flows.engine.components import components
    from flows.experiments.hand_bench import bench_table, run_bench
    from flows.training.job import LORA
    from ipa_core.config import ConfigError, load_config

    path = Path(model).resolve() if model and Path(model).exists() else model
    settings = load_config(config, [*(set_ or []), *([f"candidates.model.path={path}"] if path else [])])
    weights = None
    if lora is not None:
        file = lora / LORA if lora.is_dir() else lora
        if not file.is_file():
            raise ConfigError(f"--lora: there is no {file}")
        weights = file.read_bytes()
    if picture is not None and weights is None:
        raise ConfigError("--picture shows what an adapter changes: name one with --lora")
    report, shown = run_bench(settings, components(), weights)
    if picture is not None and shown is not None:
        picture.write_bytes(shown)
    print(report.model_dump_json() if json_ else bench_table(report))


def sweep(
    config: Annotated[Path, typer.Argument(help="A sweep, such as configs/paper-ablation.yaml.", show_default=False)],
    output: Annotated[
        Path, typer.Option(help="Folder for results.html, results.md and results.json.", show_default=False)
    ],
    set_: Overrides = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Train many arms through the same cached pipeline and compare them in one table."""
    from flows.engine.components import components
    from flows.experiments.sweep import load_sweep, run_sweep, sweep_page

    found = load_sweep(config)
    swept = run_sweep(found, components(), set_ or [])
    page = sweep_page(found, swept, shlex.join(["ipa", *sys.argv[1:]]))
    output.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("results.html", page.html()),
        ("results.md", page.markdown()),
        ("results.json", swept.table.model_dump_json(indent=1)),
    ):
        (output / name).write_text(text)
    print(json.dumps(swept.table.model_dump()) if json_ else output / "results.md")
