"""The training in a process of its own: the real launcher, real shards, a real (tiny) model."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.engine.components import animation_model
from flows.training.job import Job, function_name
from flows.training.launch import TrainingError, train_apart
from flows.training.previews import Preview
from ipa_core.alignment.data import prepare
from ipa_core.alignment.log import StepLog
from ipa_core.alignment.reference import ReferenceTable, reference_errors
from ipa_core.alignment.trainer import TrainedLoRA, train
from ipa_core.alignment.visits import visits
from ipa_core.config import RunConfig
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.alignment.samples import make_sample, make_samples, write_shards
from tests.alignment.test_training import CONFIG, Slot
from tests.flows import training_models
from tests.flows.training_models import KILL
from tests.tiny_model import write_tiny_pipeline

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class World:
    """A folder with a model, shards and a store."""

    folder: Path

    def job(
        self, name: str, model: Callable[..., Any] = animation_model, preview_every: int = 0, **execution: object
    ) -> Job:
        config = {
            "name": "training",
            "clips": {"sources": []},
            "candidates": {
                "model": {"path": str(self.folder / "model"), "dtype": "float32"},
                "steps": 2,
                "guidance_scale": 1.0,
            },
            "alignment": CONFIG.model_dump() | {"preview_every": preview_every},
            "execution": {"device": "cpu", **execution},
        }
        return Job(
            config=RunConfig.model_validate(config),
            key="0123abcd",
            store=str(self.folder / "store"),
            shards=tuple(sorted(self.folder.glob("*.tar"))),
            references=self.folder / "references.json",
            animation_model=function_name(model),
            output=self.folder / name / "output",
            previews=tuple(encoded(self.folder, number) for number in (1, 2)) if preview_every else (),
        )

    def recording(self, patch: pytest.MonkeyPatch) -> Path:
        """Let trainings find the stand-in for W&B. Return the file with its calls."""
        patch.syspath_prepend(str(Path(__file__).with_name("recording")))
        patch.setenv("RECORDED", str(self.folder / "calls.jsonl"))
        return self.folder / "calls.jsonl"


def encoded(folder: Path, number: int) -> Preview:
    path = folder / f"{number}.conditioning"
    path.write_bytes(make_sample(number).conditioning.to_bytes())
    return Preview(clip_id=f"clip-{number}", conditioning=path, seed=number)


def logged(calls: Path, name: str) -> list[tuple[int, Any]]:
    """Return the (step, value) that were logged to the stand-in."""
    found = [json.loads(line) for line in calls.read_text().splitlines()]
    return [(call["log"], call["values"][name]) for call in found if name in call.get("values", ())]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def world(tmp_path: Path, model_folder: Path) -> World:
    folder = tmp_path / "a world"
    shutil.copytree(model_folder, folder / "model")
    write_shards(folder, make_samples(5), per_shard=3)
    (folder / "references.json").write_text(ReferenceTable(samples={}).model_dump_json())
    return World(folder)


@pytest.fixture(scope="module")
def alone(model_folder: Path) -> TrainedLoRA:
    """The same training here, in this process."""
    model = WanVACEModel.load(model_folder, dtype="float32", device="cpu", text_encoder=False)
    return train(model, make_samples(5), CONFIG, checkpoints=Slot(), on_step=lambda log: None)


def history(job: Job) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((job.output / "training.json").read_text())
    return found


def without_seconds(logs: tuple[StepLog, ...]) -> list[dict[str, Any]]:
    return [log.model_dump(exclude={"seconds"}, exclude_defaults=True) for log in logs]


def nothing(done: int, steps: int) -> None: ...


@dataclass(frozen=True)
class Interrupted:
    """A training that was killed, and the same taken up again."""

    killed_steps: list[tuple[int, int]]
    error: str
    second_steps: list[tuple[int, int]]
    second_lines: list[str]
    job: Job


def interrupt(world: World, caplog: pytest.LogCaptureFixture, first: Job, second: Job) -> Interrupted:
    (world.folder / "model" / KILL).touch()
    killed_steps: list[tuple[int, int]] = []
    second_steps: list[tuple[int, int]] = []
    with pytest.raises(TrainingError) as failure:
        train_apart(first, lambda done, steps: killed_steps.append((done, steps)))
    with caplog.at_level(logging.INFO, "flows.training"):
        caplog.clear()
        train_apart(second, lambda done, steps: second_steps.append((done, steps)))
    return Interrupted(killed_steps, str(failure.value), second_steps, caplog.messages, second)


def close(history: list[dict[str, Any]]) -> list[Any]:
    # Absolute: a gap of e_ref and e_theta, each about 6, that are one number but for the order of its sums.
    return [pytest.approx(step, rel=2e-4, abs=1e-5) for step in history]


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_two_processes_take_the_steps_of_one_and_show_them_once(
    world: World, alone: TrainedLoRA, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a table of the first step's four samples of five: that step finds all its reference errors there, the next
    computes them, and in each the processes must agree on which."""
    model = WanVACEModel.load(world.folder / "model", dtype="float32", device="cpu", text_encoder=False)
    samples = make_samples(5)
    known = [samples[visit.index] for visit in visits(CONFIG.seed, samples.digests, 0, CONFIG.batch_size)]
    errors = {one.digest: reference_errors(model, prepare(one, model, CONFIG), range(9), CONFIG) for one in known}
    table = ReferenceTable(samples={digest: (found,) for digest, found in errors.items()})
    (world.folder / "references.json").write_text(table.model_dump_json())
    calls = world.recording(monkeypatch)
    job = world.job("run", preview_every=3, train_processes=2, train_strategy=strategy, trackers=["wandb"])
    train_apart(job, nothing)
    assert history(job) == close(without_seconds(alone.history))
    assert [step for step, _ in logged(calls, "alignment/loss")] == [0, 1, 2, 3, 4, 5]
    assert logged(calls, "previews/clip-1") == [(3, "step-000003-clip-1.mp4"), (6, "step-000006-clip-1.mp4")]


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "first", "second"), [("ddp", 2, 1), ("fsdp2", 2, 1), ("fsdp2", 1, 2)])
def test_another_number_of_processes_goes_on(
    world: World, alone: TrainedLoRA, caplog: pytest.LogCaptureFixture, strategy: str, first: int, second: int
) -> None:
    jobs = [
        world.job(name, training_models.mortal, train_processes=count, train_strategy=strategy)
        for name, count in (("first", first), ("second", second))
    ]
    found = interrupt(world, caplog, *jobs)
    assert "was killed by SIGKILL after step 4" in found.error
    assert [done for done, _ in found.second_steps] == [4, 5, 6]
    assert history(found.job) == close(without_seconds(alone.history))


def test_an_error_is_told_in_its_own_words(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "flows.training"),
        pytest.raises(TrainingError, match=r"^RuntimeError: the weights are not there \(before a step was done\)$"),
    ):
        train_apart(world.job("run", training_models.absent), nothing)
    assert "raise RuntimeError" in caplog.text


@pytest.mark.slow
def test_a_killed_flow_takes_its_training_along(world: World) -> None:
    job_file = world.folder / "told.json"
    job_file.write_text(world.job("run", training_models.slow, train_processes=2).model_dump_json())
    code = (
        "import sys, pathlib; from flows.training.job import Job; from flows.training.launch import train_apart;"
        "train_apart(Job.model_validate_json(pathlib.Path(sys.argv[1]).read_bytes()), lambda *step: print(*step))"
    )
    flow = subprocess.Popen([sys.executable, "-uc", code, str(job_file)], stdout=subprocess.PIPE, cwd=ROOT)
    assert flow.stdout is not None
    assert flow.stdout.readline() == b"1 6\n"
    family = psutil.Process(flow.pid).children(recursive=True)
    os.kill(flow.pid, signal.SIGKILL)
    flow.communicate()
    assert len(family) == 3  # the launcher and the two
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


def test_functions_that_no_other_process_can_find_are_refused() -> None:
    with pytest.raises(ValueError, match="make it a function of an importable module"):
        function_name(lambda: None)
