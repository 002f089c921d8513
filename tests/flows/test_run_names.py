"""Names of runs in the Prefect UI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.engine.run_folder import RunFolder
from flows.orchestration.parameters import run_name
from storage import Store
from tests.fakes import fake_config

STAGES = ("clips", "scores", "evaluation")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of a run of the config `fake`."""
    monkeypatch.setenv("IPA_HOME", str(tmp_path / "store"))
    folder = RunFolder.new(Store(tmp_path / "store"))
    folder.write_config(fake_config(tmp_path))
    return folder.run_id


def named(**parameters: Any) -> str:
    """The name, with T for its time."""
    return re.sub(r"\b\d{8}-\d{4}\b", "T", run_name(parameters, STAGES))


def test_a_run_is_named_after_its_config() -> None:
    assert named(config={"name": "demo"}) == "demo T"


def test_a_run_of_a_config_file_has_the_name_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(fake_config(tmp_path).model_dump(mode="json")))
    assert named(config={"path": str(path)}, last="scores") == "fake T, to scores"


def test_a_run_of_a_config_file_that_is_gone_is_named_after_the_file() -> None:
    assert named(config={"path": "configs/gone.yaml"}) == "gone T"


@pytest.mark.parametrize("how", ["last", "fake", "id"])
def test_a_run_with_the_config_of_another_is_named_after_that_config(run: str, how: str) -> None:
    assert named(run=run if how == "id" else how, first="scores") == "fake T, from scores"


def test_a_run_of_a_run_that_is_gone_says_which(run: str) -> None:
    assert named(run="20250101-000000-abcd", first="scores", last="scores") == "20250101-000000-abcd T, only scores"
