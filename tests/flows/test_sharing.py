"""Real `ipa run` processes with one config on one store: each item is computed once, and both runs complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from storage import Store
from tests.fakes import fake_config, write_videos

ROOT = Path(__file__).parents[2]


def started(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"IPA_COMPONENTS": "tests.flows.fault_components:SLOW", "IPA_SLOW": "0.5"}
    command = [sys.executable, "-m", "flows.cli", "run", str(folder / "run.yaml"), "--to", "poses", "--json"]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def computed(run: subprocess.Popen[str]) -> dict[str, int]:
    """Number of items that a run computed, by stage."""
    out, said = run.communicate()
    assert run.returncode == 0, said
    assert "Traceback" not in said
    return {stage["name"]: stage["computed"] for stage in json.loads(out)["stages"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_videos(tmp_path / "videos", 30)
    config = fake_config(tmp_path, execution__workers=1)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return tmp_path


@pytest.mark.slow
def test_two_runs_share_the_work(folder: Path) -> None:
    both = [computed(run) for run in [started(folder), started(folder)]]
    assert sum(one["poses"] for one in both) == 30
    assert min(one["poses"] for one in both) > 0


@pytest.mark.slow
def test_a_run_goes_on_with_the_items_of_one_that_was_killed(folder: Path) -> None:
    first, second = started(folder), started(folder)
    actions = Store(folder / "store").actions
    while len(list(actions.keys("poses"))) < 10 and first.poll() is None:
        pass
    first.kill()
    first.communicate()
    computed(second)
    assert len(list(actions.keys("poses"))) == 30
