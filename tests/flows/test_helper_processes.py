"""`execution.gpus_per_clip`: what is refused, who helps whom, and what becomes of helpers, which have no model here."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from flows.engine import helper_processes
from flows.engine.estimates import Estimates
from flows.engine.helper_processes import HelperProcesses, check_spread
from flows.engine.workers import LocalCrew
from flows.stages.candidates import Candidates
from ipa_core.config import ConfigError, Execution, ModelConfig
from storage import Store
from tests.fakes import FAKES, fake_config

TWO = Execution(device="cpu", gpus=2, gpus_per_clip=2)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"gpus": 3}, "gpus must be a multiple of gpus_per_clip, got 3 and 2"),
        ({"gpus": 2, "compile": True}, "gpus_per_clip can't be used together with compile"),
        ({"gpus": 2, "cluster": "tcp://there:8786"}, "gpus_per_clip can't be used together with cluster"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_config(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Execution.model_validate({"gpus_per_clip": 2, **fields})


def model_folder(folder: Path, pipeline: str, transformer: str, heads: int) -> Path:
    (folder / "transformer").mkdir()
    parts = {name: ["transformers", "Any"] for name in ("image_encoder", "image_processor")}
    index = {"_class_name": pipeline, "transformer": ["diffusers", transformer], **parts}
    (folder / "model_index.json").write_text(json.dumps(index))
    sizes = {"_class_name": transformer, "num_attention_heads": heads}
    (folder / "transformer" / "config.json").write_text(json.dumps(sizes))
    return folder


def test_heads_that_can_not_be_shared_equally_are_a_sentence(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "WanVACEPipeline", "WanVACETransformer3DModel", 12)
    check_spread(folder, TWO)
    with pytest.raises(ConfigError, match=r"12 attention heads can't be shared equally by 5 GPUs; take one of 2, 3, 4"):
        check_spread(folder, Execution(device="cpu", gpus=5, gpus_per_clip=5))


def test_a_model_of_another_kind_is_a_sentence(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "WanAnimatePipeline", "WanAnimateTransformer3DModel", 40)
    check_spread(folder, Execution(device="cpu"))
    with pytest.raises(ConfigError, match="WanAnimatePipeline computes a clip on one GPU alone; set it to 1"):
        check_spread(folder, TWO)


def test_fewer_gpus_than_a_clip_takes_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(tmp_path, "WanVACEPipeline", "WanVACETransformer3DModel", 40)
    monkeypatch.setattr(helper_processes, "visible_devices", lambda: ("0",))
    with pytest.raises(ConfigError, match="gpus_per_clip is 2, but this process sees 1 GPUs; lower it"):
        check_spread(folder, Execution(gpus=2, gpus_per_clip=2))


def test_four_gpus_are_two_processes_with_a_helper_each(tmp_path: Path) -> None:
    config = fake_config(tmp_path, execution__gpus=4, execution__gpus_per_clip=2)
    assert LocalCrew(Store(tmp_path / "store"), config, FAKES).slots("gpu") == 2


def test_a_plan_keeps_the_gpu_hours_and_divides_the_time(tmp_path: Path) -> None:
    def estimate(**execution: int) -> tuple[float | None, float | None]:
        fields = {f"execution__{name}": value for name, value in execution.items()}
        config = fake_config(tmp_path, candidates__model={"path": "Wan-AI/Wan2.1-VACE-14B-diffusers"}, **fields)
        found = Estimates(Store(tmp_path / "store"), config, None).of(Candidates(), 1)
        return found.seconds, found.gpu_hours

    (alone, cost), (together, same) = estimate(gpus=2), estimate(gpus=2, gpus_per_clip=2)
    assert alone is not None
    assert together == pytest.approx(alone / 2, abs=0.1)
    assert same == cost


READY = "print('{\"ready\": true}', flush=True);"
"""A process that says it and then does the rest."""


def spoken(monkeypatch: pytest.MonkeyPatch, program: str) -> HelperProcesses:
    """Helpers that run a line of Python instead of a model."""

    def started(job: Path, rank: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-S", "-c", program]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(helper_processes, "_started", started)
    return HelperProcesses(ModelConfig(path="any"), TWO, b"lora")


def test_a_helper_that_can_not_load_its_model_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    found = spoken(monkeypatch, 'print(\'{"error": "none of the 2 GPUs is free", "memory": false}\')')
    with pytest.raises(RuntimeError, match="gpus_per_clip: a helper process can't start: none of the 2 GPUs is free"):
        found.begin()


def test_helpers_that_are_well_end_without_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = spoken(monkeypatch, READY + "import sys; sys.stdin.read()")
    seat = found.begin()
    assert (seat.rank, seat.size, seat.meeting.parent.exists()) == (0, 2, True)
    assert found.end() is None
    assert not seat.meeting.parent.exists()


def test_a_full_card_of_a_helper_is_a_full_card(monkeypatch: pytest.MonkeyPatch) -> None:
    found = spoken(monkeypatch, READY + 'print(\'{"error": "CUDA out of memory", "memory": true}\')')
    found.begin()
    reason = found.end()
    assert isinstance(reason, torch.OutOfMemoryError)
    assert str(reason) == "a helper process (execution.gpus_per_clip) failed: CUDA out of memory"


def test_a_killed_helper_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = spoken(monkeypatch, READY + f"import os; os.kill(os.getpid(), {signal.SIGKILL.value})")
    found.begin()
    assert str(found.end()) == (
        "a helper process (execution.gpus_per_clip) was killed by signal 9; was the main memory enough?"
    )


def test_a_leader_that_waits_for_a_dead_helper_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(helper_processes, "_PATIENCE", 0.0)
    monkeypatch.setattr(helper_processes.os, "_exit", ended.append)
    with subprocess.Popen([sys.executable, "-S", "-c", ""], text=True) as process:
        helper_processes._watch(process, helper_processes.threading.Event())
    assert ended == [70]
    assert "a helper process (execution.gpus_per_clip) ended, and its leader waited for it" in capsys.readouterr().err
