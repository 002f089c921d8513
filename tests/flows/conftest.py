from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from flows.engine.components import Components
from flows.engine.progress import Progress
from flows.engine.stage import Results
from flows.engine.walk import Runner, Scope
from flows.engine.work import LocalCrew
from flows.training import process as training
from ipa_core.config import RunConfig
from storage import Store
from tests.fakes import FAKES, fake_config, write_videos

Run = Callable[..., "Done"]
VIDEOS = 8


class Done:
    """A run that has ended."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.results: Results = runner.results
        self.store = runner.store

    def computed(self) -> dict[str, int]:
        """Items that were computed, by stage; stages without any are left out."""
        counts = {
            stage: sum(entry.status == "computed" for entry in entries) for stage, entries in self.results.items()
        }
        return {stage: count for stage, count in counts.items() if count}

    def output(self, stage: str, name: str) -> str:
        one = self.results.one(stage)  # type: ignore[arg-type]
        assert one is not None
        return one[1].outputs[name].digest


def run_fake(config: RunConfig, scope: Scope | None = None, components: Components = FAKES) -> Done:
    """Without an orchestrator."""
    assert config.execution.store is not None
    store, progress = Store(config.execution.store), Progress(quiet=True)
    crew = LocalCrew(store, config, components, progress.part)
    runner = Runner(store, config, components, progress, crew)
    try:
        runner.run(scope or Scope())
    finally:
        runner.close()
    return Done(runner)


def train_here(job: training.Job, on_step: Callable[[int, int], None]) -> None:
    """The training as the stage starts it, but in this process: a process of its own takes ten seconds to start, and
    test_training, the kills and the smoke test have those."""

    def say(**said: Any) -> None:
        if "step" in said:
            on_step(said["step"], said["steps"])

    job.output.mkdir(parents=True)
    with patch.object(training, "_say", say):
        training._train(job)


@pytest.fixture(scope="session", autouse=True)
def training_here() -> Iterator[None]:
    with patch("flows.stages.finetune.train_apart", train_here):
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
