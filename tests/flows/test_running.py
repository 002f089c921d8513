"""Scopes, failures and what stops a run."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.engine.components import Components
from flows.engine.inputs import RunInputs
from flows.engine.stage import RunStopped
from flows.engine.view import View
from flows.engine.walk import Scope, nothing_to_compute
from flows.engine.workers import LocalCrew
from flows.stages import STAGES
from ipa_core.config import PosesConfig, RunConfig
from ipa_core.records import PoseSequence
from storage import Store
from tests.fakes import FAKES, FakeExtractor, fake_config, write_videos
from tests.flows.conftest import VIDEOS, run_fake


class Fragile(FakeExtractor):
    """Its process dies at the picture whose first red value is the smallest a test writes."""

    def extract(self, frames: np.ndarray) -> PoseSequence:
        if frames[0].mean() < 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().extract(frames)


class Faulty(FakeExtractor):
    def extract(self, frames: np.ndarray) -> PoseSequence:
        raise RuntimeError("no memory left on the device")


def fragile(config: PosesConfig) -> Fragile:
    return Fragile(config)


def faulty(config: PosesConfig) -> Faulty:
    return Faulty(config)


def with_extractor(make: object) -> Components:
    return replace(FAKES, pose_extractor=make)  # type: ignore[arg-type]


def is_done(config: RunConfig, scope: Scope) -> bool:
    assert config.execution.store is not None
    inputs = RunInputs(Store(config.execution.store), config, FAKES)
    return nothing_to_compute(View(config, inputs), STAGES, scope)


def test_a_run_is_done_when_nothing_is_left_to_compute(finished: Path) -> None:
    assert is_done(fake_config(finished), Scope())


def test_a_run_with_another_setting_is_not_done(folder: Path) -> None:
    assert not is_done(fake_config(folder, alignment__beta=300.0), Scope())


def test_a_stage_to_be_refreshed_is_not_done(folder: Path) -> None:
    assert not is_done(fake_config(folder), Scope(refresh=frozenset({"scores"})))


def test_to_stops_after_its_stage(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 1)
    done = run_fake(fake_config(tmp_path), Scope(last="poses"))
    assert list(done.results) == ["clips", "poses"]


def test_from_says_what_is_missing(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 1)
    with pytest.raises(RunStopped, match=r"1 of 1 items of clips are not in the store \(the first: video-0000.mp4\)"):
        run_fake(fake_config(tmp_path), Scope(first="poses"))


def test_from_runs_on_what_is_there(folder: Path) -> None:
    done = run_fake(fake_config(folder, alignment__beta=300.0), Scope(first="finetune", last="finetune"))
    assert done.computed() == {"finetune": 1}


def test_a_worker_that_dies_takes_only_its_item_along(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 3)
    from ipa_core.video import encode_video

    (tmp_path / "videos" / "dark.mp4").write_bytes(encode_video(np.zeros((5, 32, 32, 3), np.uint8), 8))
    config = fake_config(tmp_path, execution__max_failed=0.5, execution__workers=2)
    done = run_fake(config, Scope(last="poses"), with_extractor(fragile), LocalCrew)
    assert {entry.item.name: entry.status for entry in done.results["poses"]} == {
        "dark.mp4 #000": "failed",
        "video-0000.mp4 #000": "computed",
        "video-0001.mp4 #000": "computed",
        "video-0002.mp4 #000": "computed",
    }


def test_too_many_failures_end_the_run_with_a_sentence(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 2)
    with pytest.raises(RunStopped, match=r"2 of 2 items of poses failed.*RuntimeError: no memory left"):
        run_fake(fake_config(tmp_path), Scope(last="poses"), with_extractor(faulty))


def test_failures_are_tried_again_by_the_next_run(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 2)
    with pytest.raises(RunStopped):
        run_fake(fake_config(tmp_path), Scope(last="poses"), with_extractor(faulty))
    assert run_fake(fake_config(tmp_path), Scope(last="poses")).computed() == {"poses": 2}


def test_nothing_kept_names_the_best_score_and_the_threshold(folder: Path) -> None:
    with pytest.raises(
        RunStopped, match=r"none of \d+ candidates was kept: the best score is 0\.\d+, .*threshold is 1"
    ):
        run_fake(fake_config(folder, selection__threshold=1.0))


def test_equal_videos_are_used_once_and_said(folder: Path) -> None:
    (folder / "videos" / "zz copy.mp4").write_bytes((folder / "videos" / "video-0000.mp4").read_bytes())
    done = run_fake(fake_config(folder))
    assert len(done.results["clips"]) == VIDEOS
    assert [(drop.name, drop.reason) for drop in done.view.dropped] == [
        ("zz copy.mp4", "the same bytes as video-0000.mp4")
    ]
