from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.components import Components
from flows.crew import LocalCrew
from flows.progress import Progress
from flows.runner import Runner, Scope
from flows.stage import Results
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
