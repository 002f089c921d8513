"""The flow on a real Prefect server."""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.engine.summary import RunSummary
from ipa_core.config import PosesConfig
from ipa_core.records import PoseSequence
from ipa_core.video import encode_video
from storage.registry import Registry
from tests.fakes import FAKES, FakeExtractor, fake_config, write_videos
from tests.flows.conftest import VIDEOS, run_fake, whole_run
from tests.flows.servers import prefect_server


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with prefect_server():
        yield


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_COMPONENTS", "tests.fakes:FAKES")


def run(folder: Path, last: str = "evaluation", **changes: object) -> tuple[str, RunSummary]:
    from flows.retrain import retrain

    state = retrain(fake_config(folder, **changes), last=last, return_state=True)
    found = state.result(raise_on_failure=False)
    summary = getattr(found, "summary", found)  # A failed run's data is an exception with the summary.
    assert isinstance(summary, RunSummary)
    return state.type.value, summary


pytestmark = [pytest.mark.usefixtures("server"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@dataclass(frozen=True)
class Shown:
    """A run that trained anew, and all that the server had of it."""

    state: str
    summary: RunSummary
    flow_runs: dict[str, str]
    artifacts: dict[str, str]


@pytest.fixture(scope="module")
def shown(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("shown") / "run"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("IPA_COMPONENTS", "tests.fakes:FAKES")
        environment.setenv("IPA_WEB_URL", "http://gpu-server:8766/")
        state, summary = run(folder, alignment__beta=100.0)
    return Shown(state, summary, flow_runs(), artifacts())


def test_a_run_with_something_new_is_completed_and_shows_its_outputs(shown: Shown) -> None:
    assert (shown.state, shown.summary.status) == ("COMPLETED", "completed")
    assert {name: Path(path).exists() for name, path in shown.summary.outputs.items()} == {
        "lora": True,
        "shards": True,
        "report": True,
    }


def test_a_run_with_nothing_new_says_so(folder: Path) -> None:
    state, summary = run(folder)
    assert (state, summary.status) == ("COMPLETED", "nothing_new")
    assert "NothingNew" in flow_runs().values()
    assert {row.computed for row in summary.stages} == {0}


def test_a_run_that_cannot_go_on_is_failed_with_its_sentence(folder: Path) -> None:
    state, summary = run(folder, selection__threshold=1.0)
    assert (state, summary.status) == ("FAILED", "failed")
    assert summary.error is not None and "selection.threshold is 1.0" in summary.error


def test_the_summary_is_kept_in_the_runs_folder(shown: Shown) -> None:
    kept = json.loads(Path(shown.summary.outputs["report"]).with_name("run.json").read_text())
    assert kept["status"] == shown.summary.status


def test_a_run_tells_what_became_of_its_adapter_and_the_report_shows_the_champion(folder: Path) -> None:
    first = whole_run(fake_config(folder, rounds__min_clips=50))
    Registry(folder / "store").promote(first.promotion.adapter, "me", "to have one", "2026-01-01T00:00:00+00:00")
    second = whole_run(fake_config(folder, alignment__beta=70.0, rounds__min_clips=50))
    assert (second.promotion.decision, second.promotion.against) == ("refused", first.promotion.adapter)
    html = Path(second.outputs["report"]).read_text()
    assert second.promotion.reason in html and "aligned against the champion" in html
    kept = json.loads((folder / "store" / "runs" / second.run_id / "run.json").read_text())
    assert kept["promotion"]["decision"] == "refused"


def flow_runs() -> dict[str, str]:
    """Name of each flow run and its state; of several with one name the newest."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = sorted(client.read_flow_runs(), key=lambda run: run.created or 0)
    return {run.name: run.state.name for run in found if run.state}


def artifacts() -> dict[str, str]:
    """Contents of the newest artifact of each key."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = sorted(client.read_artifacts(), key=lambda artifact: artifact.created or 0)
    return {str(artifact.key): str(artifact.data) for artifact in found}


def test_a_stage_is_a_flow_run_that_is_cached_where_nothing_was_computed(shown: Shown) -> None:
    states = shown.flow_runs
    assert {name: states[f"{name}, fake"] for name in ("clips", "scores", "finetune")} == {
        "clips": "Cached",
        "scores": "Cached",
        "finetune": "Completed",
    }


def test_the_ui_shows_progress_stages_yield_pictures_and_a_link_to_the_report(shown: Shown) -> None:
    found = shown.artifacts
    wanted = {"progress-finetune", "stages", "yield", "contact-sheet-1", "training-curve", "outcome", "ipa-stats"}
    assert wanted <= set(found)
    assert f"(http://gpu-server:8766/runs/{shown.summary.run_id}/report.html)" in found["report"]
    assert "**driving**\n\n![driving](data:image/jpeg" in found["contact-sheet-1"]
    assert "failure rate: " in found["ipa-stats"] and "| finetune | " in found["ipa-stats"]


def test_bytes_deleted_behind_a_cached_stage_are_computed_again(folder: Path) -> None:
    from flows.engine.stage import blob

    done = run_fake(fake_config(folder))
    done.store.objects.delete(blob(done.results.done("candidates")[0][1], "conditioning"))
    _, summary = run(folder, shards__samples_per_shard=1)
    computed = {row.name: row.computed for row in summary.stages if row.computed}
    assert computed == {"candidates": 1, "shards": 1, "finetune": 1}


def test_a_config_that_cannot_be_read_fails_the_run_with_its_sentence(tmp_path: Path) -> None:
    from flows.orchestration.parameters import ConfigFile
    from flows.retrain import retrain

    state = retrain(ConfigFile(path=str(tmp_path / "nowhere.yaml")), return_state=True)
    assert (state.name, state.message) == (
        "Failed",
        f"there is no config file {tmp_path / 'nowhere.yaml'}; `ipa init` writes one",
    )


def test_a_run_is_repeated_with_the_parameters_of_the_one_that_failed(tmp_path: Path) -> None:
    from flows.orchestration.parameters import ConfigFile
    from flows.retrain import retrain

    first = retrain(ConfigFile(path=str(tmp_path / "nowhere.yaml")), return_state=True)
    again = retrain(repeat=str(first.state_details.flow_run_id), return_state=True)
    assert (again.name, again.message) == ("Failed", first.message)
    named = [name for name in flow_runs() if name.endswith(", again")]
    assert [re.fullmatch(r"nowhere \d{8}-\d{4}, again", name) is not None for name in named] == [True]


def test_a_flow_run_that_is_not_there_cannot_be_repeated() -> None:
    from flows.retrain import retrain

    state = retrain(repeat="somewhere", return_state=True)
    assert state.message == "repeat: the Prefect server has no flow run somewhere"


class Failing(FakeExtractor):
    """Fails at the video that is all black."""

    def extract(self, frames: np.ndarray) -> PoseSequence:
        if frames.mean() < 1:
            raise OSError("the disk is gone")
        return super().extract(frames)


def failing(config: PosesConfig) -> FakeExtractor:
    return Failing(config)


FAILING = replace(FAKES, pose_extractor=failing)  # type: ignore[arg-type]


def test_a_batch_with_a_failed_item_is_a_failed_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import get_client

    monkeypatch.setenv("IPA_COMPONENTS", f"{__name__}:FAILING")
    write_videos(tmp_path / "videos", 3)
    (tmp_path / "videos" / "dark.mp4").write_bytes(encode_video(np.zeros((5, 32, 32, 3), np.uint8), 8))
    run(tmp_path, last="poses", execution__max_failed=0.5)
    with get_client(sync_client=True) as client:
        messages = {
            task.state.message for task in client.read_task_runs() if task.state and task.state.name == "Failed"
        }
    [said] = [message for message in messages if message and "dark.mp4" in message]
    assert re.fullmatch(r"1 of \d items failed; the first, dark.mp4 #000: OSError: the disk is gone", said)


def test_prefects_traceback_is_for_bugs() -> None:
    from flows.orchestration.monitoring import RunFailed

    def kept(error: Exception) -> bool:
        logger = logging.getLogger("prefect.flow_runs")
        return bool(logger.filter(logger.makeRecord("", logging.ERROR, "", 0, "", (), (type(error), error, None))))

    assert (kept(ValueError("a bug")), kept(RunFailed("a reason"))) == (True, False)


def test_the_last_run_can_be_run_again_from_a_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.retrain import retrain

    whole_run(fake_config(folder, alignment__beta=79.0))
    monkeypatch.setenv("IPA_HOME", str(folder / "store"))
    state = retrain(run="last", first="finetune", last="finetune", refresh=["finetune"], return_state=True)
    summary = state.result(raise_on_failure=False)
    assert {row.name: row.computed for row in summary.stages if row.computed} == {"finetune": 1}


def test_a_deployment_to_hand_over_to_that_is_missing_is_named(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", VIDEOS)
    _, summary = run(tmp_path, execution__hand_over="retrain/nowhere")
    assert summary.error is not None and "the server has no deployment retrain/nowhere" in summary.error


def test_no_more_batches_hold_a_gpu_than_the_server_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    from flows.orchestration.tasks import GPU_SLOTS, gpu_slots

    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU_SLOTS, limit=1))
    monkeypatch.setattr("flows.orchestration.tasks.get_run_logger", lambda: logging.getLogger("no run"))
    holding, most = 0, 0
    lock = threading.Lock()

    def batch() -> None:
        nonlocal holding, most
        with gpu_slots(1):
            with lock:
                holding += 1
                most = max(most, holding)
            time.sleep(0.3)
            with lock:
                holding -= 1

    try:
        with ThreadPoolExecutor(3) as threads:
            for batch_run in [threads.submit(batch) for _ in range(3)]:
                batch_run.result()
    finally:
        with get_client(sync_client=True) as client:
            client.delete_global_concurrency_limit_by_name(GPU_SLOTS)
    assert most == 1


def test_parameters_are_a_typed_form_with_help_texts() -> None:
    from flows.retrain import retrain

    schema = retrain.parameters
    beta = schema.definitions["AlignmentConfig"]["properties"]["hand_weight"]
    assert (beta["type"], "lambda in W" in beta["description"]) == ("number", True)
    assert "newest" in schema.properties["run"]["description"]


def test_retention_drops_what_was_not_kept_and_the_next_run_is_still_cached(folder: Path) -> None:
    from flows.stages.candidates import candidates
    from storage import Store

    whole_run(fake_config(folder, execution__retention="kept", alignment__beta=50.0))
    config = fake_config(folder, alignment__beta=50.0)
    done = run_fake(config)
    latents = {one.candidate.latents for one in candidates(done.view)}
    assert done.computed() == {}
    assert 0 < len(Store(folder / "store").objects.missing(latents)) < len(latents)


def test_few_frames_of_ours_lie_between_the_flow_and_a_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import inspect

    from flows.stages.selection import Selection

    seen: list[list[str]] = []
    compute = Selection.compute

    def counted(self: Selection, item: Any, worker: Any) -> Any:
        frames = [frame for frame in inspect.stack() if "/flows/" in frame.filename and "/tests/" not in frame.filename]
        names = [f"{Path(frame.filename).name}:{frame.function}" for frame in frames]
        seen.append(names[: names.index("retrain.py:retrain")])
        return compute(self, item, worker)

    monkeypatch.setattr(Selection, "compute", counted)
    run(folder, last="selection", selection__threshold=0.11)
    assert seen and len(seen[0]) <= 10, seen
