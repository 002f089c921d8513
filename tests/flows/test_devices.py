"""One GPU for each process, told by processes that live and die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from flows.engine import devices
from flows.engine.devices import claim_device, release_device, visible_devices
from flows.engine.stage import RunStopped
from ipa_core.config import Execution

CUDA = Execution(device="cuda")
AUTO = Execution(device="auto")

_WORKER = """
import os, subprocess, sys
from flows.engine.devices import claim_device
from flows.engine.stage import RunStopped
from ipa_core.config import Execution
try:
    print(claim_device(Execution(device="cuda"), sys.argv[1].split(",")), flush=True)
except RunStopped as stop:
    print(stop, flush=True)
if len(sys.argv) > 2 and os.fork() == 0:
    os.close(1)
sys.stdin.read()
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    yield
    release_device()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a worker that claims one of the named GPUs and lives until its stdin ends."""
    started: list[subprocess.Popen[str]] = []

    def one(visible: str, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _WORKER, visible, *options]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield one
    for process in started:
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_two_processes_get_different_gpus_and_a_third_one_sentence(start: Start) -> None:
    first, second = start("0,1"), start("0,1")
    assert {said(first), said(second)} == {"cuda:0", "cuda:1"}
    sentence = said(start("0,1"))
    assert sentence.startswith("none of the 2 GPUs is free: processes ")
    assert str(first.pid) in sentence and str(second.pid) in sentence


def test_a_killed_process_frees_its_gpu(start: Start) -> None:
    first = start("0,1")
    assert said(first) == "cuda:0"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert said(start("0,1")) == "cuda:0"


def test_a_forked_child_does_not_hold_its_dead_parents_gpu(start: Start) -> None:
    first = start("0,1", "fork")
    assert said(first) == "cuda:0"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert said(start("0,1")) == "cuda:0"


def test_a_gpu_is_told_by_its_physical_name(start: Start) -> None:
    assert said(start("GPU-aa,GPU-bb")) == "cuda:0"
    assert said(start("GPU-aa,GPU-cc")) == "cuda:1"


def test_a_process_keeps_its_gpu(tmp_path: Path) -> None:
    assert [claim_device(CUDA, ("0", "1")) for _ in range(2)] == ["cuda:0", "cuda:0"]
    release_device()
    assert devices._claimed is None


def test_the_only_visible_gpu_is_taken_without_a_lock(tmp_path: Path) -> None:
    assert claim_device(AUTO, ("GPU-aa",)) == "cuda:0"
    assert not list(tmp_path.iterdir())


def test_a_process_of_a_training_takes_the_gpu_of_its_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert claim_device(AUTO, ("0", "1")) == "cuda:1"
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_auto_means_cpu_and_cuda_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert claim_device(AUTO, ()) == "cpu"
    with pytest.raises(RunStopped, match="sees no GPU"):
        claim_device(CUDA, ())


def test_cpu_claims_nothing() -> None:
    assert claim_device(Execution(device="cpu"), ("0", "1")) == "cpu"
    assert devices._claimed is None


@pytest.mark.parametrize(
    ("chosen", "count", "names"),
    [(None, 2, ("0", "1")), ("2,3", 2, ("2", "3")), ("GPU-aa, GPU-bb", 2, ("GPU-aa", "GPU-bb")), ("1,-1,0", 1, ("1",))],
)
def test_visible_gpus_have_their_physical_names(
    chosen: str | None, count: int, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", chosen)
    assert visible_devices() == names
