"""The processes of this machine: how many compute at once, and what becomes of an item that hangs."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flows.engine import workers
from flows.engine.estimates import Estimates
from flows.engine.stage import Item, Output, Place, RunStopped, Stage
from flows.engine.walk import Scope
from flows.engine.work import Batch, Loss, Silent, WorkersLost
from flows.engine.worker import Worker
from flows.engine.workers import LocalCrew, check_gpus
from flows.stages.candidates import Candidates
from ipa_core.config import Execution, ModelConfig
from ipa_core.records import Record
from storage import Action, Store
from tests.fake_model import FakeModel
from tests.fakes import FAKES, fake_config
from tests.flows import hanging
from tests.flows.conftest import run_fake


class SlowModel(FakeModel):
    """Writes when it began and ended to generate, into the file `spans` beside the model."""

    def __init__(self, spans: Path) -> None:
        super().__init__(None)
        self._spans = spans

    def decode(self, latents):  # type: ignore[no-untyped-def]
        began = time.time()
        time.sleep(1.0)
        with self._spans.open("a") as spans:
            spans.write(f"{os.getpid()} {began} {time.time()}\n")
        return super().decode(latents)


def slow_model(config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool) -> SlowModel:
    return SlowModel(Path(config.path).with_name("spans"))


SLOW = replace(FAKES, animation_model=slow_model)  # type: ignore[arg-type]


def test_two_gpu_processes_are_busy_at_the_same_time(folder: Path) -> None:
    config = fake_config(folder, candidates__seed=1, execution__gpus=2)
    run_fake(config, Scope(last="candidates"), SLOW, LocalCrew)
    spans = [line.split() for line in (folder / "spans").read_text().splitlines()]
    assert len({process for process, _, _ in spans}) == 2
    (_, _, ended), (_, began, _) = sorted(spans, key=lambda span: span[1])[:2]
    assert float(began) < float(ended)


def thread_model(config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool) -> FakeModel:
    Path(config.path).with_name(f"threads-{os.getpid()}").write_text(os.environ["OMP_NUM_THREADS"])
    return FakeModel(None)


def test_processes_share_the_cores(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    config = fake_config(folder, candidates__seed=1, execution__gpus=2)
    run_fake(config, Scope(last="candidates"), replace(FAKES, animation_model=thread_model), LocalCrew)
    found = {path.read_text() for path in folder.glob("threads-*")}
    assert found == {str(max(1, len(os.sched_getaffinity(0)) // 2))}


def test_a_plan_divides_by_the_processes_that_a_run_keeps_busy(folder: Path) -> None:
    store = Store(folder / "store")

    def seconds(gpus: int) -> float:
        config = fake_config(folder, execution__gpus=gpus)
        found = Estimates(store, config, model_of(store)).of(Candidates(), 8).seconds
        assert found is not None
        return found

    assert seconds(2) == pytest.approx(seconds(1) / 2, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({"candidates__steps": 24}, 2),
        ({"candidates__per_clip": 8}, 2),
        ({"candidates__guidance_scale": 5.0}, 2),
        ({"candidates__seed": 9}, 1),
    ],
)
def test_a_plan_scales_what_was_measured_with_other_settings(
    changes: dict[str, object], factor: float, folder: Path
) -> None:
    store = Store(folder / "store")

    def seconds(**changes: object) -> float:
        config = fake_config(folder, **{"candidates__steps": 12, "candidates__per_clip": 4} | changes)
        found = Estimates(store, config, model_of(store)).of(Candidates(), 1000).seconds
        assert found is not None
        return found

    assert seconds(**changes) == pytest.approx(factor * seconds(), rel=0.01)


def model_of(store: Store) -> str:
    return next(iter(store.actions.all("candidates"))).action.inputs["model"]


def test_more_gpus_than_there_are_is_refused_in_a_sentence() -> None:
    with pytest.raises(RunStopped, match=r"execution\.gpus is 64, but this process sees \d+ GPUs; lower it"):
        check_gpus(Execution(gpus=64, device="cuda"))


@pytest.mark.parametrize("place", ["cpu", pytest.param("gpu", marks=pytest.mark.slow)])
def test_an_item_that_hangs_is_named_and_the_others_are_done(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_GRACE", 1.0)
    assert hanging.errors(tmp_path, place) == {
        "in C": hanging.HUNG,
        "innocent": None,
        "stopped": hanging.HUNG,
        "deaf": hanging.HUNG,
    }


class Asking(Stage[Record]):
    """Leaves a program behind that holds all that the process left open to it."""

    name, version, place, section, record = "asking", 1, "cpu", "clips", Record

    def items(self, run: object) -> list[Item]:
        return [Item("deadly", Action("asking", 1, {}, {}))]

    def compute(self, item: Item, worker: Worker) -> Output:
        os.posix_spawnp("sleep", ["sleep", "20"], os.environ)
        os.kill(os.getpid(), signal.SIGKILL)
        return Output({})


def test_a_dead_process_is_seen_although_its_child_lives(tmp_path: Path) -> None:
    crew = LocalCrew(Store(tmp_path / "store"), fake_config(tmp_path), FAKES)
    stage = Asking()
    with pytest.raises(WorkersLost) as lost:
        crew.run(Batch("alone", stage, tuple(stage.items(None))), Silent())
    crew.close()
    assert lost.value.loss is Loss.KILLED
