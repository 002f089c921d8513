"""The command line as a user has it: real MediaPipe, a real (tiny) diffusers pipeline, a real Prefect server."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipa_core.video import decode_video, encode_video
from tests.clips.bad_videos import write_bad_videos
from tests.tiny_model import write_tiny_pipeline

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "demo" / "videos"
SMALL = {
    "candidates.steps": 2,
    "candidates.per_clip": 2,
    "selection.threshold": 0,
    "alignment.steps": 2,
    "alignment.batch_size": 2,
    "alignment.rank": 2,
    "evaluation.per_clip": 1,
    "evaluation.bootstrap": 50,
    "execution.max_failed": 0,
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@dataclass(frozen=True)
class World:
    """A folder with videos and a model, and the command that runs over it."""

    folder: Path

    def ipa(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PREFECT_HOME": str(self.folder / "prefect"), "PREFECT_LOGGING_LEVEL": "WARNING"}
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1200,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.ipa("run", str(ROOT / "configs" / "demo.yaml"), *self.settings(), "--json", *arguments)

    def settings(self) -> Sequence[str]:
        values: dict[str, Any] = {
            "clips.sources": ["videos"],
            "candidates.model.path": str(self.folder / "model"),
            **SMALL,
        }
        return [part for name, value in values.items() for part in ("--set", f"{name}={json.dumps(value)}")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("a path with spaces")
    write_tiny_pipeline(folder / "model", geometry="demo")
    videos = folder / "videos"
    videos.mkdir()
    for video in sorted(DEMO.glob("*.mp4"))[:7]:
        shutil.copy(video, videos)
    return World(folder)


@pytest.fixture(scope="module")
def first(world: World) -> subprocess.CompletedProcess[str]:
    write_bad_videos(world.folder / "videos", clip_seconds=5 / 8)
    pictures = decode_video(world.folder / "videos" / sorted(DEMO.glob("*.mp4"))[0].name)
    both = np.concatenate([pictures, pictures[:, :, ::-1]], axis=2)
    (world.folder / "videos" / "two_people.mp4").write_bytes(encode_video(np.ascontiguousarray(both), 16))
    return world.run()


def test_a_folder_with_bad_videos_runs_through(first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["status"] == "completed"


def test_nobody_sees_a_traceback(first: subprocess.CompletedProcess[str]) -> None:
    assert "Traceback" not in first.stderr


def test_each_bad_video_has_its_reason_in_the_report(first: subprocess.CompletedProcess[str], tmp_path: Path) -> None:
    html = Path(json.loads(first.stdout)["outputs"]["report"]).read_text()
    expected = write_bad_videos(tmp_path, clip_seconds=5 / 8)
    unseen = [name for name, reason in expected.items() if name not in html or reason not in html]
    assert unseen == []


@pytest.fixture(scope="module")
def second(world: World, first: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    return world.run()


def test_the_second_run_computes_nothing(second: subprocess.CompletedProcess[str]) -> None:
    again = json.loads(second.stdout)
    assert again["status"] == "nothing_new"
    assert {stage["name"]: stage["computed"] for stage in again["stages"] if stage["computed"]} == {}


def test_only_a_run_that_computes_starts_a_server(
    first: subprocess.CompletedProcess[str], second: subprocess.CompletedProcess[str]
) -> None:
    assert ["starting a Prefect server" in run.stderr for run in (first, second)] == [True, False]


def test_the_lora_loads_in_diffusers(world: World, first: subprocess.CompletedProcess[str]) -> None:
    from diffusers import WanVACEPipeline

    pipeline = WanVACEPipeline.from_pretrained(world.folder / "model", local_files_only=True)
    pipeline.load_lora_weights(json.loads(first.stdout)["outputs"]["lora"])
    assert pipeline.get_active_adapters()


def test_the_aligned_model_animates(world: World, first: subprocess.CompletedProcess[str]) -> None:
    from ipa_core.video import encode_png

    driving = sorted(DEMO.glob("*.mp4"))[0]
    (world.folder / "me.png").write_bytes(encode_png(decode_video(driving)[0]))
    done = world.ipa(
        "animate",
        *("--reference", "me.png", "--driving", str(driving), "--output", "out.mp4"),
        *("--lora", json.loads(first.stdout)["outputs"]["lora"], "--model", "model"),
        *("--set", "candidates.steps=2"),
    )
    assert done.returncode == 0, done.stderr
    assert decode_video(world.folder / "out.mp4").shape == (5, 96, 96, 3)


def test_missing_weights_are_said_before_any_work(world: World) -> None:
    done = world.ipa("run", str(ROOT / "configs" / "wan-vace-1.3b.yaml"), "--set", "clips.sources=[videos]")
    assert done.returncode == 1
    assert "hf download Wan-AI/Wan2.1-VACE-1.3B-diffusers" in done.stderr and "19 GB" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_the_commands() -> None:
    done = subprocess.run([sys.executable, "-m", "flows.cli", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert all(name in done.stdout for name in ("demo", "run", "plan", "animate", "report", "store"))


def test_real_footage_goes_through_to_candidates(world: World, tmp_path: Path) -> None:
    """Demo clips of the package pose2sim: real people, 60 fps, portrait. What the tiny model makes of them is noise."""
    found = importlib.util.find_spec("Pose2Sim")
    if found is None or found.origin is None:
        pytest.skip("pose2sim is not installed; `make test` installs it")
    footage = sorted(Path(found.origin).parent.glob("Demo_*/videos/*.mp4"))[::2]
    done = world.run(
        *("--to", "scores", "--set", f"clips.sources={json.dumps([str(path) for path in footage])}"),
        *("--set", "clips.metadata=null", "--set", "clips.prompt=a person", "--set", "clips.crop=person"),
        *("--set", "clips.max_windows=1", "--set", "clips.held_out=0", "--set", "clips.width=128"),
        *("--set", "clips.height=128", "--set", "scores.min_hand_size=4"),
    )
    stages = {stage["name"]: stage for stage in json.loads(done.stdout)["stages"]}
    assert done.returncode == 0, done.stderr
    assert stages["clips"]["items"] == len(footage)
    assert stages["poses"]["items"] - stages["poses"]["rejected"] >= len(footage) / 2
    assert stages["candidates"]["failed"] == 0 and stages["candidates"]["items"] > 0
