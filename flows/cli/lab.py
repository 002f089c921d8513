"""`ipa lab`: commands for maintainers of the project. Rendering people needs the extra [synthetic]."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import AsJson
from flows.cli.talk import verbose
from ipa_core.config import ConfigError

lab_app = typer.Typer(no_args_is_help=True, help="Make the parts that come with the project: clips, models, scores.")
score_app = typer.Typer(no_args_is_help=True, help="Make the hand score.")
lab_app.add_typer(score_app, name="score")

Folder = Annotated[Path, typer.Option(help="Measurements are kept here; the same command goes on where it was.")]
Output = Annotated[Path | None, typer.Option(help="Default: the packaged file.", show_default=False)]
Processes = Annotated[int, typer.Option(min=1)]
WORK = Path(".ipa-score")
CORES = os.cpu_count() or 1


@lab_app.command()
def synth(
    output: Annotated[Path, typer.Option(help="Folder for the videos and metadata.csv.")],
    count: int = 12,
    seed: int = 0,
    size: int = 256,
    frames: int = 24,
    fps: float = 16.0,
) -> None:
    """Render driving videos of people with articulated hands."""
    _prepare()
    from flows.engine.progress import Progress
    from ipa_core.people.dataset import render_clips

    render_clips(output, count, seed=seed, size=size, frames=frames, fps=fps, progress=Progress().share)
    print(output)


@lab_app.command()
def pretrain(
    config: Annotated[Path, typer.Argument(help="configs/pretrain.yaml")],
    output: Annotated[Path, typer.Option(help="Folder for the pipeline.")],
    workdir: Annotated[Path, typer.Option(help="Rendered clips and checkpoints; kept, so that it resumes.")] = Path(
        ".ipa/pretrain"
    ),
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Train the small base model from scratch on rendered clips; resumes where it was."""
    from ipa_core.pretraining.config import load_pretrain_config

    settings = load_pretrain_config(config)
    _prepare()
    from flows.engine.progress import Progress
    from ipa_core.pretraining.pretrain import pretrain as train

    progress = Progress()
    progress.line(f"training the base model into {output}; first its clips are rendered")
    found = train(settings, workdir, output, device=device, progress=progress.share)
    print(json.dumps(asdict(found), default=str))


@score_app.command()
def fit(
    folder: Folder = WORK,
    output: Output = None,
    people: Annotated[int, typer.Option(min=2, help="Rendered people.")] = 20,
    processes: Processes = CORES,
    json_: AsJson = False,
) -> None:
    """Fit the coefficients of the hand score on rendered people, faultless and spoilt."""
    _prepare()
    from flows.experiments.score_fit import fit_score
    from ipa_core.config import NEWEST_SCORE
    from ipa_core.scoring.quality import PACKAGED

    model = fit_score(folder / "measured", output or PACKAGED[NEWEST_SCORE], count=people, processes=processes)
    if json_:
        print(json.dumps(model.model_dump()))
        return
    for name, weight in sorted(model.weights.items(), key=lambda item: -item[1]):
        print(f"{weight:8.3f}  {name}")
    print(f"{model.bias:8.3f}  bias\n{output or PACKAGED[NEWEST_SCORE]}")


@score_app.command()
def train(
    folder: Folder = WORK,
    output: Output = None,
    people: Annotated[int, typer.Option(min=2, help="Rendered people.")] = 300,
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of mp4 files of real people; their hands are learnt from too.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Weights to begin with; default: random ones.")] = None,
    processes: Processes = CORES,
) -> None:
    """Train the finger network on pairs of hands. `ipa lab score fit` must follow."""
    _prepare()
    from flows.experiments.score_fingers import train_fingers
    from ipa_core.config import NEWEST_SCORE
    from ipa_core.scoring.quality import FINGER_WEIGHTS

    output = output or FINGER_WEIGHTS[NEWEST_SCORE]
    train_fingers(folder / "pairs", output, subjects=people, processes=processes, recordings=recordings, start=start)
    print(output)


def _prepare() -> None:
    for module in ("anny", "numba"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError("rendering people needs the extra [synthetic]: pip install 'ipa-pipeline[synthetic]'")
    verbose()
