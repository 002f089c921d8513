"""`ipa score`: how the hand score is made, for which people are rendered (extra [synthetic]), and what it can tell."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ipa_core.config import ConfigError

score_app = typer.Typer(no_args_is_help=True, help="How the hand score is made, and what it can tell.")

Folder = Annotated[Path, typer.Option(help="Measurements are kept here; the same command goes on where it was.")]
Output = Annotated[Path | None, typer.Option(help="Default: the packaged file.", show_default=False)]
Processes = Annotated[int, typer.Option(min=1)]
WORK = Path(".ipa-score")
CORES = os.cpu_count() or 1


@score_app.command()
def fit(
    folder: Folder = WORK,
    output: Output = None,
    people: Annotated[int, typer.Option(min=2, help="Rendered people.")] = 40,
    processes: Processes = CORES,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fit the coefficients of the hand score on rendered people, faultless and spoilt."""
    _prepare()
    from flows.experiments.score_fit import fit_score
    from ipa_core.scoring.quality import PACKAGED

    model = fit_score(folder / "measured", output or PACKAGED, count=people, processes=processes)
    if json_:
        print(json.dumps(model.model_dump()))
        return
    for name, weight in sorted(model.weights.items(), key=lambda item: -item[1]):
        print(f"{weight:8.3f}  {name}")
    print(f"{model.bias:8.3f}  bias\n{output or PACKAGED}")


@score_app.command()
def train(
    folder: Folder = WORK,
    output: Output = None,
    people: Annotated[int, typer.Option(min=2, help="Rendered people.")] = 140,
    steps: Annotated[int, typer.Option(min=1)] = 1200,
    processes: Processes = CORES,
) -> None:
    """Train the finger network on crops of rendered people. `ipa score fit` must follow."""
    _prepare()
    from flows.experiments.score_fingers import train_fingers
    from ipa_core.scoring.quality import FINGER_WEIGHTS

    train_fingers(folder / "crops", output or FINGER_WEIGHTS, subjects=people, steps=steps, processes=processes)
    print(output or FINGER_WEIGHTS)


@score_app.command()
def reliability(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Run id; default: the last run with scores.", show_default=False)
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Which measures tell the candidates of one clip apart, on a run's, and what choosing the best can give. Needs no
    extra."""
    from dataclasses import asdict

    from flows.engine.run_folder import named_run, runs
    from flows.engine.store import open_store
    from flows.experiments.score_reliability import reliability_table, run_reliability

    store = open_store()
    scored = (folder for folder in runs(store) if folder.names("scores"))
    folder = named_run(run_id) if run_id else next(scored, None)
    if folder is None:
        raise ConfigError("no run of this store has scored candidates; `ipa run CONFIG --to scores` does that")
    found = run_reliability(folder, store)
    print(json.dumps({name: asdict(one) for name, one in found.items()}) if json_ else reliability_table(found))


def _prepare() -> None:
    for module in ("anny", "numba"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError("rendering people needs the extra [synthetic]: pip install 'ipa-pipeline[synthetic]'")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
