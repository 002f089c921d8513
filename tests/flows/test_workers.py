"""The processes of this machine: how many compute at once, and what becomes of an item that hangs."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.engine.estimates import Estimates
from flows.engine.stage import RunStopped
from flows.engine.walk import Scope
from flows.engine.workers import LocalCrew, check_gpus
from flows.stages.candidates import Candidates
from ipa_core.config import Execution, ModelConfig, PosesConfig
from ipa_core.records import PoseSequence
from storage import Store
from tests.fake_model import FakeModel
from tests.fakes import FAKES, FakeExtractor, fake_config, write_videos
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


def test_a_plan_divides_by_the_processes_that_a_run_keeps_busy(folder: Path) -> None:
    store = Store(folder / "store")

    def seconds(gpus: int) -> float:
        config = fake_config(folder, execution__gpus=gpus)
        found = Estimates(store, config, model_of(store)).of(Candidates(), 8).seconds
        assert found is not None
        return found

    assert seconds(2) == pytest.approx(seconds(1) / 2, abs=0.1)


def model_of(store: Store) -> str:
    return next(iter(store.actions.all("candidates"))).action.inputs["model"]


def test_more_gpus_than_there_are_is_refused_in_a_sentence() -> None:
    with pytest.raises(RunStopped, match=r"execution\.gpus is 64, but this process sees \d+ GPUs; lower it"):
        check_gpus(Execution(gpus=64, device="cuda"))


class Hanging(FakeExtractor):
    """Hangs at the video that is all black."""

    def extract(self, frames: np.ndarray) -> PoseSequence:
        if frames.mean() < 1:
            time.sleep(600)
        return super().extract(frames)


def hanging(config: PosesConfig) -> FakeExtractor:
    return Hanging(config)


HANGING = replace(FAKES, pose_extractor=hanging)  # type: ignore[arg-type]


def test_an_item_that_hangs_fails_and_the_run_goes_on(tmp_path: Path) -> None:
    from ipa_core.video import encode_video

    write_videos(tmp_path / "videos", 2)
    (tmp_path / "videos" / "dark.mp4").write_bytes(encode_video(np.zeros((5, 32, 32, 3), np.uint8), 8))
    config = fake_config(tmp_path, execution__max_failed=0.5, execution__item_minutes=0.1)
    done = run_fake(config, Scope(last="poses"), HANGING, LocalCrew)
    failed = {entry.item.name: entry.error for entry in done.results["poses"] if entry.status == "failed"}
    assert list(failed) == ["dark.mp4 #000"]
    assert "showed no progress for execution.item_minutes" in str(failed["dark.mp4 #000"])
