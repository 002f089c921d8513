from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from flows.engine.components import Components
from flows.engine.run import Run
from flows.engine.stage import Item, Place
from flows.engine.summary import RunSummary
from flows.engine.view import View
from flows.engine.walk import Scope
from flows.engine.work import MakeCrew, Work
from flows.engine.workers import LocalCrew
from flows.stages import STAGES
from flows.training import process
from flows.training.job import Job
from ipa_core.config import RunConfig
from storage import ActionResult
from tests.fakes import FAKES, fake_config, write_videos

VIDEOS = 8


class HereCrew(LocalCrew):
    """Computes everything in this process: a process of its own takes seconds to start. `test_workers`, the kills and
    the smoke test have those."""

    def prepare(self, place: Place) -> None: ...

    def slots(self, place: Place) -> int:
        return 1

    def work(self, place: Place) -> Work:
        return self._worker.run


class Done:
    """A run that has ended."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.view: View = run.view
        self.results = run.view.results
        self.store = run.store

    def computed(self) -> dict[str, int]:
        """Items that were computed, by stage; stages without any are left out."""
        counts = {
            stage: sum(entry.status == "computed" for entry in entries) for stage, entries in self.results.items()
        }
        return {stage: count for stage, count in counts.items() if count}

    def one(self, stage: str) -> tuple[Item, ActionResult]:
        return self.results.done(stage)[0]

    def output(self, stage: str, name: str) -> str:
        return self.one(stage)[1].outputs[name].digest


def run_fake(
    config: RunConfig, scope: Scope | None = None, components: Components = FAKES, crew: MakeCrew | None = None
) -> Done:
    """Without an orchestrator. Raises the error that stopped the run."""
    with Run(config, STAGES, components, scope, crew, quiet=True) as run:
        run.walk()
    run.check()
    return Done(run)


def whole_run(config: RunConfig, scope: Scope | None = None, components: Components = FAKES) -> RunSummary:
    """With what comes after the stages, and without an orchestrator."""
    from flows.retrain import finished

    with Run(config, STAGES, components, scope, quiet=True) as run, finished(run):
        run.walk()
    return run.summary


def train_here(job: Job, on_step: Callable[[int, int], None]) -> None:
    """The training as the stage starts it, but in this process: a process of its own takes ten seconds to start, and
    test_training, the kills and the smoke test have those."""

    def say(**said: Any) -> None:
        if "step" in said:
            on_step(said["step"], said["steps"])

    job.output.mkdir(parents=True)
    with patch.object(process, "_say", say):
        process._train(job)


@pytest.fixture(scope="session", autouse=True)
def all_here() -> Iterator[None]:
    with (
        patch("flows.stages.finetune.train_apart", train_here),
        patch("flows.engine.run.LocalCrew", HereCrew),
        patch("flows.orchestration.tasks.LocalCrew", HereCrew),
    ):
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos, model and the store of one complete run. Not to be changed: take `folder`."""
    folder = tmp_path_factory.mktemp("finished run")
    write_videos(folder / "videos", VIDEOS)
    run_fake(fake_config(folder))
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of `finished` that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
