"""`ipa doctor`: what it finds, what it advises, and that it makes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli import doctor
from flows.cli.doctor import Finding, Gpu
from ipa_core.config import RunConfig
from ipa_core.config_file import load_config
from tests.flows.test_cli import DEMO, call

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]
GIB = 2**30


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: Patch) -> Path:
    """The working directory."""
    monkeypatch.delenv("IPA_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(monkeypatch: Patch, capsys: Capture, *arguments: str) -> tuple[int, dict[str, Finding]]:
    code, out, _ = call(monkeypatch, capsys, "doctor", "--json", *arguments)
    answer = json.loads(out)
    findings = [Finding(**entry) for entry in answer["findings"]]
    assert answer["problems"] == sum(finding.state == "problem" for finding in findings)
    return code, {finding.name: finding for finding in findings}


def test_the_demo_lacks_nothing_and_nothing_is_made(empty: Path, monkeypatch: Patch, capsys: Capture) -> None:
    code, findings = found(monkeypatch, capsys, str(DEMO))

    assert (code, {finding.state for finding in findings.values()}) == (0, {"ok"})
    assert findings["store"].about == f"{empty}/.ipa, which a run makes, can be written"
    assert findings["model"].about.endswith("16.9 MB in 3 files, 3 of which the next run reads once for their digests")
    assert list(empty.iterdir()) == []


@pytest.mark.usefixtures("empty")
def test_missing_weights_are_one_problem_with_its_remedy(monkeypatch: Patch, capsys: Capture) -> None:
    config = ["candidates.model.path=Wan-AI/None-diffusers", f"clips.sources=[{DEMO.parents[1] / 'demo'}]"]
    code, out, _ = call(monkeypatch, capsys, "doctor", str(DEMO), *(part for one in config for part in ("--set", one)))

    advice = [line for line in out.splitlines() if line.startswith("problem:")]
    assert (code, len(advice)) == (1, 1)
    assert "the model Wan-AI/None-diffusers is not on this machine: get it with `hf download" in advice[0]


@pytest.mark.usefixtures("empty")
def test_a_store_that_can_not_be_written(monkeypatch: Patch, capsys: Capture, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    code, findings = found(monkeypatch, capsys)

    assert (code, findings["store"].state) == (1, "problem")
    assert findings["store"].advice.startswith(f"{tmp_path} can't be written")


def test_a_server_that_does_not_answer(monkeypatch: Patch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        finding = doctor._server()

    assert (finding.state, finding.about) == ("problem", "http://127.0.0.1:9/api does not answer")


def test_a_package_that_is_too_old(monkeypatch: Patch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: ["numpy>=99", "nowhere", "wandb; extra == 'track'"])

    assert [(one.about.split()[0], one.advice) for one in doctor._versions() if one.state == "problem"] == [
        ("numpy", "install it in this environment: pip install 'numpy>=99'"),
        ("nowhere", "install it in this environment: pip install 'nowhere'"),
    ]


def test_gpus_are_those_that_the_driver_tells(monkeypatch: Patch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771, 143000, 570.1, 9.0'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert doctor.gpus_here() == [Gpu("NVIDIA H200", 143771 * 2**20, 143000 * 2**20, "570.1", 9.0)]


def wan(**alignment: Any) -> RunConfig:
    config = load_config(DEMO.with_name("wan-vace-14b.yaml"))
    return config.model_copy(update={"alignment": config.alignment.model_copy(update=alignment)})


@pytest.mark.parametrize(
    ("gib", "changes", "state", "advice"),
    [
        (4, {}, "problem", "a GPU here has 4 GiB; take a larger one"),
        (24, {}, "problem", "train on several GPUs with execution.train_strategy fsdp2"),
        (48, {}, "problem", "train on several GPUs with execution.train_strategy fsdp2"),
        (80, {"gradient_checkpointing": False}, "problem", "set alignment.gradient_checkpointing to true"),
        (80, {"accumulation": 1}, "problem", "raise alignment.accumulation"),
        (80, {}, "ok", ""),
    ],
)
def test_a_cards_memory_is_compared_with_the_need(gib: int, changes: dict[str, Any], state: str, advice: str) -> None:
    gpu = Gpu("a card", gib * GIB, gib * GIB, "1", 9.0)
    findings = [one for one in doctor._memory(wan(**changes), [gpu]) if one.name == "GPU memory"]

    assert [one.state for one in findings] == [state]
    assert advice in findings[0].advice


def test_more_gpus_wanted_than_there_are() -> None:
    config = wan()
    config = config.model_copy(update={"execution": config.execution.model_copy(update={"gpus": 4})})

    finding = doctor._gpus([Gpu("a card", 80 * GIB, 80 * GIB, "1", 9.0)], config)

    assert finding.state == "problem"
