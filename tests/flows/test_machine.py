"""The machine of a run, and the device of an item."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flows.engine import machine
from flows.engine.machine import device_of, gpus, this_machine
from flows.engine.run_folder import RunFolder
from flows.engine.stage import Item, ItemResult
from flows.engine.summary import stage_table
from flows.engine.view import Results
from ipa_core.config import Execution
from storage import Action, ActionResult, Store


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver says of two GPUs."""
    for number in range(2):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
        text = f"Model: \t\t NVIDIA H200\nIRQ:   \t\t {number}\n"
        (tmp_path / f"0000:0{number}:00.0" / "information").write_text(text)
    monkeypatch.setattr(machine, "_NVIDIA", tmp_path)
    monkeypatch.setattr(machine, "version", lambda name: "2.9.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(("visible", "count"), [(None, 2), ("1", 1), ("", 0), ("-1", 0)])
@pytest.mark.usefixtures("two_gpus")
def test_only_visible_gpus_are_counted(visible: str | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == ("NVIDIA H200",) * count


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_computes_the_stages_that_need_the_model() -> None:
    execution = Execution()
    assert [device_of(place, execution) for place in ("cpu", "here")] == ["cpu", "cpu"]
    assert [device_of(place, execution) for place in ("gpu", "train")] == ["NVIDIA H200", "NVIDIA H200"]
    assert device_of("gpu", Execution(device="cpu")) == "cpu"


@pytest.mark.usefixtures("two_gpus")
def test_torch_for_cpus_uses_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "version", lambda name: "2.9.0+cpu")
    assert gpus() == ()


def test_a_machine_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder, here = RunFolder.new(Store(tmp_path / "store")), this_machine()
    assert folder.machine() is None
    folder.write_machine(here)
    assert folder.machine() == here


def test_the_commit_is_of_the_checkout_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ipa_core").mkdir()
    monkeypatch.setattr(machine.ipa_core, "__file__", str(tmp_path / "ipa_core" / "__init__.py"))
    assert machine.commit() is None
    for command in ("init -q", "-c user.name=a -c user.email=a@b commit -q --allow-empty -m first"):
        subprocess.run(["git", "-C", str(tmp_path), *command.split()], check=True)
    head = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert machine.commit() == head.stdout[:12]


def entry(number: int, status: str, **provenance: object) -> ItemResult:
    action = Action("clips", 1, {"number": number}, {})
    result = ActionResult(action, "done", None, {}, {}, {"seconds": 1800.0} | provenance)
    return ItemResult(Item(str(number), action), status, result)  # type: ignore[arg-type]


def test_hours_are_of_the_device_and_of_all_its_processes() -> None:
    entries = [
        entry(1, "computed", device="cpu"),
        entry(2, "computed", device="NVIDIA H200", processes=8),
        entry(3, "cached", device="cpu"),
        entry(4, "cached"),
        entry(4, "cached"),
    ]
    table = stage_table(Results({"clips": entries}), "clips", 10.0)
    assert table.hours == {"cpu": 0.5, "gpu": 4.0}
    assert table.cached_hours == {"cpu": 0.5, "unrecorded": 0.5}
