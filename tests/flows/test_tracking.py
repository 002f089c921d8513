"""The training in trackers, and its previews. W&B is a stand-in that records its calls, except at the end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.engine import components
from flows.engine.components import check_trackers
from flows.engine.plan import plan_run
from flows.engine.run import Run
from flows.engine.store import open_store
from flows.stages import STAGES
from flows.training.launch import TrainingError, train_apart
from flows.training.previews import Preview, drawn
from flows.training.tracking import Trackers
from ipa_core.alignment.trainer import train
from ipa_core.config import CandidatesConfig, ConfigError, Execution
from ipa_core.models.wan_vace.model import WanVACEModel
from ipa_core.video import decode_video
from storage import Store
from tests.alignment.samples import make_sample, make_samples, write_shards
from tests.alignment.test_training import CONFIG, Slot
from tests.fakes import FAKES, fake_config, write_videos
from tests.flows import training_models
from tests.flows.test_training import World
from tests.tiny_model import FRAMES, HEIGHT, WIDTH, write_tiny_pipeline

KEY = "0123abcd"


def encoded(folder: Path, number: int) -> Preview:
    path = folder / f"{number}.conditioning"
    path.write_bytes(make_sample(number).conditioning.to_bytes())
    return Preview(clip_id=f"clip-{number}", conditioning=path, seed=number)


@dataclass(frozen=True)
class Story:
    """A training of two processes, killed after step 4 of 6, that goes on in one from the checkpoint of step 3."""

    calls: list[dict[str, Any]]
    lines: list[str]
    store: Store

    def logged(self, name: str) -> list[tuple[int, Any]]:
        return [(call["log"], call["values"][name]) for call in self.calls if name in call.get("values", ())]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("a world")
    write_tiny_pipeline(folder / "model")
    write_shards(folder, make_samples(5), per_shard=3)
    (folder / "references.json").write_text('{"samples": {}}')
    (folder / "model" / training_models.KILL).touch()
    recorded, lines = folder / "calls.jsonl", list[str]()
    world = World(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).with_name("recording")))
        patch.setenv("RECORDED", str(recorded))
        patch.setattr("flows.training.launch.log.log", lambda level, form, text: lines.append(text))
        for name, count in (("first", 2), ("second", 1)):
            job = world.job(name, training_models.mortal, train_processes=count, trackers=["wandb"])
            alignment = job.config.alignment.model_copy(update={"preview_every": 5})
            candidates = job.config.candidates.model_copy(update={"steps": 2, "guidance_scale": 1.0})
            config = job.config.model_copy(update={"alignment": alignment, "candidates": candidates})
            previews = tuple(encoded(folder, number) for number in (1, 2))
            job = job.model_copy(update={"config": config, "previews": previews})
            try:
                train_apart(job, lambda done, steps: None)
            except TrainingError as error:
                lines.append(str(error))
    calls = [json.loads(line) for line in recorded.read_text().splitlines()]
    return Story(calls, lines, Store(folder / "store"))


def test_a_continued_training_goes_on_with_its_run(story: Story) -> None:
    begun = [(call["init"], call["name"], call["id"], call["resume"]) for call in story.calls if "init" in call]
    assert begun == [("ipa", "training", None, None), ("ipa", "training", "run-1", "allow")]
    assert "wandb: the same run goes on" in story.lines


def test_each_step_is_logged_once_by_whatever_processes(story: Story) -> None:
    """The first training logged steps 0 to 3 in two processes; the second takes step 3 again."""
    steps = [step for step, _ in story.logged("alignment/loss")]
    assert steps == [0, 1, 2, 3, 4, 5]


def test_the_config_is_logged_once_without_its_execution(story: Story) -> None:
    [config] = [call["config"] for call in story.calls if "config" in call]
    assert (config["alignment.beta"], [name for name in config if name.startswith("execution")]) == (100, [])


def test_previews_are_shown_after_their_step(story: Story) -> None:
    assert story.logged("previews/clip-1") == [(5, "step-000005-clip-1.mp4")]


def test_previews_lie_in_the_store(story: Story) -> None:
    folder = story.store.folder.below(f"previews/{KEY}")
    assert sorted(folder.names()) == ["step-000005-clip-1.mp4", "step-000005-clip-2.mp4"]
    video = decode_video(folder.read("step-000005-clip-1.mp4") or b"")
    assert video.shape == (FRAMES, HEIGHT, WIDTH, 3)


def test_previews_leave_the_training_as_it_is(tmp_path: Path) -> None:
    """Bit for bit, also where something in the training drew from torch's own random numbers."""
    model = WanVACEModel.load(write_tiny_pipeline(tmp_path), dtype="float32", device="cpu", text_encoder=False)
    config = CONFIG.model_copy(update={"preview_every": 2})
    candidates = CandidatesConfig.model_validate({"model": {"path": "tiny"}, "steps": 2, "guidance_scale": 1.0})
    shown: list[int] = []

    def preview(step: int) -> None:
        before = torch.random.get_rng_state()
        shown.extend(step for _ in drawn(model, (encoded(tmp_path, 1),), candidates))
        assert torch.equal(torch.random.get_rng_state(), before)

    with_previews = train(model, make_samples(5), config, checkpoints=Slot(), on_step=lambda log: None, preview=preview)
    without = train(model, make_samples(5), CONFIG, checkpoints=Slot(), on_step=lambda log: None)
    assert (shown, with_previews.weights) == ([2, 4, 6], without.weights)


def without_packages(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(components, "find_spec", lambda name: None)
    return "execution.trackers: the package of mlflow is not installed; pip install 'ipa-pipeline[track]'"


def test_a_run_without_the_package_stops_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_videos(tmp_path / "videos", 1)
    sentence = without_packages(monkeypatch)
    with Run(fake_config(tmp_path, execution__trackers=["mlflow"]), STAGES, FAKES, quiet=True) as run:
        run.walk()
    assert (run.summary.error, run.summary.stages) == (sentence, ())


def test_a_plan_without_the_package_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = fake_config(tmp_path, execution__trackers=["mlflow"])
    sentence = without_packages(monkeypatch)
    with pytest.raises(ConfigError) as error:
        plan_run(open_store(config.execution), config, STAGES, FAKES)
    assert str(error.value) == sentence


def test_a_folder_of_its_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, W&B writes into a folder `wandb` where it runs."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(ConfigError, match="the package of wandb is not installed"):
        check_trackers(Execution(trackers=("wandb",)))


def test_a_tracker_that_fails_is_left_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        run = "run-1"

        def log(self, values: object, step: int) -> None:
            raise ConnectionError("the network\nis away")

    monkeypatch.setattr("flows.training.tracking.KINDS", {"wandb": lambda config, folder, run: Broken()})
    trackers = Trackers(Store(tmp_path / "store"), KEY, fake_config(tmp_path, execution__trackers=["wandb"]))
    trackers.open(resume=False)
    trackers.log({"loss": 1.0}, 0)
    trackers.log({"loss": 1.0}, 1)
    assert caplog.messages == ["wandb: nothing more is logged there: ConnectionError: the network is away"]


def tracked_twice(folder: Path, name: str) -> str:
    """Log steps 0 and 1 and stop, then 1 and 2, a video and a report in the same run of a real package."""
    (folder / "report.html").write_text("a report")
    (folder / "video.mp4").write_bytes(make_sample(1).video)
    trackers = Trackers(Store(folder / "store"), KEY, fake_config(folder, execution__trackers=[name]))
    for first in (0, 1):
        trackers.open(resume=first > 0)
        for step in (first, first + 1):
            trackers.log({"alignment/loss": 1.0 + step}, step)
        trackers.video("previews/clip-1", folder / "video.mp4", first + 2)
        trackers.files("report", [folder / "report.html"])
        trackers.close()
    run: str = json.loads((folder / "store" / "trackers" / f"{KEY}.json").read_text())[name]
    return run


def test_mlflow_itself_keeps_curves_and_files_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow = pytest.importorskip("mlflow")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "to be set anew")
        monkeypatch.delenv(name)
    run = tracked_twice(tmp_path, "mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'store' / 'trackers' / 'mlflow.db'}")
    curve = [(metric.step, metric.value) for metric in client.get_metric_history(run, "alignment/loss")]
    assert curve == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert [file.path for file in client.list_artifacts(run)] == ["previews", "report"]
    assert client.get_run(run).data.params["alignment.beta"] == "600.0"
    assert [record for record in caplog.records if record.name == "flows.training" and record.levelname != "INFO"] == []


def test_wandb_itself_writes_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tracked_twice(tmp_path, "wandb")
    kept = list((tmp_path / "store" / "trackers" / "wandb").glob(f"offline-run-*-{run}/run-{run}.wandb"))
    assert kept
    assert [record for record in caplog.records if record.name == "flows.training" and record.levelname != "INFO"] == []
