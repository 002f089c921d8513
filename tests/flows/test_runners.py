"""The same run on processes, a Dask and a Ray cluster: same keys, same results; a dead worker costs one item."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flows.engine.components import Components, hand_scorer
from flows.engine.run_folder import RunSummary
from ipa_core.config import Execution, ModelConfig, PosesConfig
from ipa_core.records import PoseSequence
from tests.fake_model import FakeModel
from tests.fakes import FakeExtractor, fake_config, fake_extractor, fake_model, fake_model_folder, write_videos
from tests.flows.conftest import run_fake
from tests.flows.servers import prefect_server

pytestmark = [
    pytest.mark.slow,
    # Dask, Ray and the server of Prefect warn of each other's and their own deprecations.
    pytest.mark.filterwarnings("ignore"),
]
RUNNERS = ["processes", "dask", "ray"]


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with prefect_server():
        yield


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest) -> str:
    if request.param in ("dask", "ray"):
        extra = f"prefect_{request.param}"
        pytest.importorskip(extra, reason=f"the extra [{request.param}] is not installed")
    return str(request.param)


class Fragile(FakeExtractor):
    """Its process dies at the video that is all black."""

    def extract(self, frames: np.ndarray) -> PoseSequence:
        if frames.mean() < 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().extract(frames)


def fragile(config: PosesConfig) -> FakeExtractor:
    return Fragile(config)


FRAGILE = Components(fragile, hand_scorer, fake_model, fake_model_folder)  # type: ignore[arg-type]


def counted_model(config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool) -> FakeModel:
    """Says in the file `loads` beside the model which process loads it."""
    if text_encoder:
        with Path(config.path).with_name("loads").open("a") as loads:
            loads.write(f"{os.getpid()} {'aligned' if lora else 'base'}\n")
    return fake_model(config, execution, lora, text_encoder)


COUNTED = Components(fake_extractor, hand_scorer, counted_model, fake_model_folder)  # type: ignore[arg-type]


def retrain(monkeypatch: pytest.MonkeyPatch, folder: Path, components: str, **changes: object) -> RunSummary:
    from flows.retrain import retrain as flow

    monkeypatch.setenv("IPA_COMPONENTS", f"{__name__}:{components}")
    last = changes.pop("last", "evaluation")
    summary = flow(fake_config(folder, **changes), last=last, return_state=True).result(raise_on_failure=False)
    assert isinstance(summary, RunSummary), summary
    return summary


def test_a_run_gives_the_results_of_a_run_on_threads(
    runner: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "videos", tmp_path / "videos")
    summary = retrain(
        monkeypatch, tmp_path, "COUNTED", execution__runner=runner, execution__workers=2, execution__gpus=2
    )
    assert summary.status == "completed", summary.error
    # At most two processes a stage hold the model, and each has loaded it once: more batches than that were computed.
    loads = (tmp_path / "loads").read_text().split("\n")[:-1]
    assert len(loads) == len(set(loads))
    assert len({load for load in loads if load.endswith("aligned")}) <= 2
    # With the same keys nothing is left to compute. (Low bits of results may differ: the first committed stand.)
    here, there = run_fake(fake_config(finished)), run_fake(fake_config(tmp_path))
    assert there.computed() == {}
    assert [item.action.key for item, _ in there.results.done("clips")] == [
        item.action.key for item, _ in here.results.done("clips")
    ]


def test_a_worker_that_dies_takes_only_its_item_along(
    runner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ipa_core.video import encode_video

    write_videos(tmp_path / "videos", 4)
    (tmp_path / "videos" / "dark.mp4").write_bytes(encode_video(np.zeros((5, 32, 32, 3), np.uint8), 8))
    summary = retrain(
        monkeypatch,
        tmp_path,
        "FRAGILE",
        last="poses",
        execution__runner=runner,
        execution__workers=2,
        execution__max_failed=0.3,
    )
    poses = summary.stages[-1]
    assert (summary.error, poses.computed, poses.failed) == (None, 4, 1)
    assert [drop.name for drop in summary.dropped] == ["dark.mp4 #000"]


LOCK_LOST = """
from flows.orchestration.clusters import open_cluster
from ipa_core.config import Execution

if __name__ == "__main__":
    runner = open_cluster(Execution(runner="processes")).task_runner("cpu").__enter__()
    # As a process leaves it that is killed while it writes.
    runner._subprocess_message_queue._wlock.acquire()
    runner.__exit__(None, None, None)
"""


def test_a_process_killed_while_it_logs_leaves_no_run_that_never_ends() -> None:
    done = subprocess.run([sys.executable, "-c", LOCK_LOST], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
