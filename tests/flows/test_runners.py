"""The same run on GPU processes of this machine, a Dask and a Ray cluster: same keys, same results; a dead worker costs
one item."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from flows.engine.summary import RunSummary
from flows.engine.workers import LocalCrew
from ipa_core.config import Execution, ModelConfig, PosesConfig
from ipa_core.records import PoseSequence
from tests.fake_model import FakeModel
from tests.fakes import FAKES, FakeExtractor, fake_config, fake_model, write_videos
from tests.flows.conftest import run_fake
from tests.flows.servers import prefect_server

pytestmark = [
    pytest.mark.slow,
    # Dask, Ray and the server of Prefect warn of each other's and their own deprecations.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with prefect_server(), patch("flows.orchestration.tasks.LocalCrew", LocalCrew):
        yield


@pytest.fixture(scope="module", params=["this machine", "dask", "ray"])
def cluster(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Address of a cluster of two CPU and two GPU workers; None: this machine."""
    kind = str(request.param)
    if kind == "this machine":
        yield None
        return
    pytest.importorskip(f"prefect_{kind}", reason=f"the extra [{kind}] is not installed")
    if kind == "ray" and " " in sys.executable:
        pytest.skip("Ray's client server does not start from a path with a space")
    with dask_cluster() if kind == "dask" else ray_cluster() as address:
        yield address


@contextmanager
def dask_cluster() -> Iterator[str]:
    import dask
    from distributed import LocalCluster

    # A batch whose worker died is not for another worker to die of.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield cluster.scheduler_address


@contextmanager
def ray_cluster() -> Iterator[str]:
    port, clients = free_port(), free_port()
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={port}"]
    command += [f"--ray-client-server-port={clients}", "--num-cpus=4", "--num-gpus=2", "--include-dashboard=false"]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as head:
        try:
            wait_for(clients, head)
            wait_until_ready(f"ray://127.0.0.1:{clients}")
            yield f"ray://127.0.0.1:{clients}"
        finally:
            os.killpg(head.pid, signal.SIGTERM)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(1800):  # On a busy machine Ray has needed more than a minute.
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens at port {port}")


def wait_until_ready(address: str) -> None:
    """The port is open before the server behind it can take a client."""
    connect = [sys.executable, "-c", f"import ray; ray.init('{address}')"]
    for _ in range(5):
        if subprocess.run(connect, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            return
    raise TimeoutError(f"no Ray answers at {address}")


class Fragile(FakeExtractor):
    """Its process dies at the video that is all black."""

    def extract(self, frames: np.ndarray) -> PoseSequence:
        if frames.mean() < 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().extract(frames)


def fragile(config: PosesConfig) -> FakeExtractor:
    return Fragile(config)


FRAGILE = replace(FAKES, pose_extractor=fragile)  # type: ignore[arg-type]


def counted_model(config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool) -> FakeModel:
    """Says in the file `loads` beside the model which process loads it."""
    if text_encoder:
        with Path(config.path).with_name("loads").open("a") as loads:
            loads.write(f"{os.getpid()} {'aligned' if lora else 'base'}\n")
    return fake_model(config, execution, lora, text_encoder)


COUNTED = replace(FAKES, animation_model=counted_model)  # type: ignore[arg-type]


def retrain(monkeypatch: pytest.MonkeyPatch, folder: Path, components: str, **changes: object) -> RunSummary:
    from flows.retrain import retrain as flow

    monkeypatch.setenv("IPA_COMPONENTS", f"{__name__}:{components}")
    last = changes.pop("last", "evaluation")
    summary = flow(fake_config(folder, **changes), last=last, return_state=True).result(raise_on_failure=False)
    assert isinstance(summary, RunSummary), summary
    return summary


def test_a_run_gives_the_results_of_a_run_in_one_process(
    cluster: str | None, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "videos", tmp_path / "videos")
    summary = retrain(
        monkeypatch, tmp_path, "COUNTED", execution__cluster=cluster, execution__workers=2, execution__gpus=2
    )
    assert summary.status == "completed", summary.error
    # Each process that holds the model has loaded it once: more batches than that were computed.
    loads = (tmp_path / "loads").read_text().split("\n")[:-1]
    assert len(loads) == len(set(loads))
    assert len({load for load in loads if load.endswith("aligned")}) == 2
    # With the same keys nothing is left to compute. (Low bits of results may differ: the first committed stand.)
    here, there = run_fake(fake_config(finished)), run_fake(fake_config(tmp_path))
    assert there.computed() == {}
    assert [item.action.key for item, _ in there.results.done("clips")] == [
        item.action.key for item, _ in here.results.done("clips")
    ]


def test_a_worker_that_dies_takes_only_its_item_along(
    cluster: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ipa_core.video import encode_video

    write_videos(tmp_path / "videos", 4)
    (tmp_path / "videos" / "dark.mp4").write_bytes(encode_video(np.zeros((5, 32, 32, 3), np.uint8), 8))
    summary = retrain(
        monkeypatch,
        tmp_path,
        "FRAGILE",
        last="poses",
        execution__cluster=cluster,
        execution__workers=2,
        execution__max_failed=0.3,
    )
    poses = summary.stages[-1]
    assert (summary.error, poses.computed, poses.failed) == (None, 4, 1)
    assert [drop.name for drop in summary.dropped] == ["dark.mp4 #000"]
