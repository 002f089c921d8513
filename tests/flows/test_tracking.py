"""The training in trackers, and its previews. W&B is a stand-in that records its calls, except at the end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flows.engine import components
from flows.engine.components import check_trackers
from flows.engine.plan import plan_run
from flows.engine.run import Run
from flows.engine.store import open_store
from flows.stages import STAGES
from flows.stages.poses import posed_clips
from flows.training.job import LORA, RECORD, Job
from flows.training.launch import TrainingError, train_apart
from flows.training.previews import drawn, videos_of
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
from tests.flows.conftest import run_fake, whole_run
from tests.flows.test_training import World, encoded, history, logged, without_seconds
from tests.tiny_model import FRAMES, HEIGHT, WIDTH, write_tiny_pipeline

KEY = "0123abcd"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> WanVACEModel:
    folder = write_tiny_pipeline(tmp_path_factory.mktemp("tiny"))
    return WanVACEModel.load(folder, dtype="float32", device="cpu", text_encoder=False)


@dataclass(frozen=True)
class Story:
    """A training that is killed after step 4 of 6, and goes on from the checkpoint of step 3."""

    calls: list[dict[str, Any]]
    steps: list[list[int]]
    """Of the killed training, and of the one that went on."""
    lines: list[str]
    job: Job

    def logged(self, name: str) -> list[tuple[int, Any]]:
        return logged(Path(self.job.store).with_name("calls.jsonl"), name)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("a world")
    write_tiny_pipeline(folder / "model")
    write_shards(folder, make_samples(5), per_shard=3)
    (folder / "references.json").write_text('{"samples": {}}')
    (folder / "model" / training_models.KILL).touch()
    world, lines, steps = World(folder), list[str](), list[list[int]]()
    with pytest.MonkeyPatch.context() as patch:
        recorded = world.recording(patch)
        patch.setattr("flows.training.launch.log.log", lambda level, form, text: lines.append(text))
        for name in ("first", "second"):
            steps.append([])
            job = world.job(name, training_models.mortal, preview_every=5, trackers=["wandb"])
            try:
                train_apart(job, lambda done, whole: steps[-1].append(done))
            except TrainingError as error:
                lines.append(str(error))
    return Story([json.loads(line) for line in recorded.read_text().splitlines()], steps, lines, job)


def test_a_killed_training_says_so(story: Story) -> None:
    assert story.steps[0] == [1, 2, 3, 4]
    assert (
        "the training process was killed by SIGKILL after step 4; its last line was: something is wrong here"
        in story.lines
    )


def test_a_killed_training_goes_on_from_its_checkpoint(story: Story) -> None:
    assert story.steps[1] == [4, 5, 6]
    assert "going on from the checkpoint of step 3" in story.lines


def test_a_continued_training_gives_the_lora_of_one_that_was_not_killed(story: Story, model: WanVACEModel) -> None:
    """Bit for bit; previews, which only the continued one drew, change nothing either."""
    alone = train(model, make_samples(5), CONFIG, checkpoints=Slot(), on_step=lambda log: None)
    assert (story.job.output / LORA).read_bytes() == alone.weights
    assert history(story.job) == without_seconds(alone.history)
    record = json.loads((story.job.output / RECORD).read_text())
    assert record == {"steps": 6, "samples": 5, "loss": alone.history[-1].loss}


def test_a_continued_training_goes_on_with_its_run(story: Story) -> None:
    begun = [(call["init"], call["name"], call["id"], call["resume"]) for call in story.calls if "init" in call]
    assert begun == [("ipa", "training", None, None), ("ipa", "training", "run-1", "allow")]
    assert "wandb: the same run goes on" in story.lines


def test_each_step_is_logged_once(story: Story) -> None:
    """The killed training logged steps 0 to 3; the other takes step 3 again."""
    steps = [step for step, _ in story.logged("alignment/loss")]
    assert steps == [0, 1, 2, 3, 4, 5]


def test_the_config_is_logged_once_without_its_execution(story: Story) -> None:
    [config] = [call["config"] for call in story.calls if "config" in call]
    assert (config["alignment.beta"], [name for name in config if name.startswith("execution")]) == (100, [])


def test_previews_are_shown_after_their_step(story: Story) -> None:
    assert story.logged("previews/clip-1") == [(5, "step-000005-clip-1.mp4")]


def test_previews_lie_in_the_store(story: Story) -> None:
    folder = Store(story.job.store).folder.below(f"previews/{story.job.key}")
    assert sorted(folder.names()) == ["step-000005-clip-1.mp4", "step-000005-clip-2.mp4"]
    found = videos_of(story.job.key, Store(story.job.store).folder)
    assert [(clip, list(by_step)) for clip, by_step in found.items()] == [("clip-1", [5]), ("clip-2", [5])]
    video = decode_video(found["clip-1"][5])
    assert video.shape == (FRAMES, HEIGHT, WIDTH, 3)


def test_previews_leave_the_training_as_it_is(tmp_path: Path, model: WanVACEModel) -> None:
    """Bit for bit, also where something in the training drew from torch's own random numbers."""
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


class Recorder:
    """A tracker that keeps the names of the files that it gets."""

    run = "run-1"

    def __init__(self) -> None:
        self.got: list[tuple[str, list[str]]] = []

    def log(self, values: object, step: int) -> None: ...

    def video(self, name: str, path: Path, step: int) -> None:
        self.got.append((name, [path.name]))

    def files(self, name: str, paths: list[Path]) -> None:
        self.got.append((name, [path.name for path in paths]))

    def close(self, failed: bool) -> None: ...


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr("flows.training.tracking.KINDS", {"wandb": lambda config, folder, run: recorder})
    monkeypatch.setattr(components, "find_spec", lambda name: SimpleNamespace(origin=name))
    return recorder


def test_a_run_gives_its_trackers_the_adapter_and_the_report(folder: Path, recorder: Recorder) -> None:
    whole_run(fake_config(folder, alignment__seed=5, execution__trackers=["wandb"]))
    assert [(name, sorted(files)[:1], LORA in files) for name, files in recorder.got] == [
        ("lora", ["README.md"], True),
        ("report", ["report.html"], False),
    ]


def test_a_run_without_news_gives_its_trackers_nothing(folder: Path, recorder: Recorder) -> None:
    whole_run(fake_config(folder, execution__trackers=["wandb"]))
    assert recorder.got == []


def test_the_first_held_out_clips_by_digest_are_previewed(folder: Path) -> None:
    done = run_fake(fake_config(folder, alignment__seed=6, alignment__preview_every=4))
    held_out = [named.clip for named, _ in posed_clips(done.view) if named.clip.split == "held_out"]
    chosen = sorted(held_out, key=lambda clip: clip.video)[:2]
    drawn_files = done.store.folder.below(f"previews/{done.one('finetune')[1].key}").names()
    assert sorted(drawn_files) == sorted(f"step-000004-{clip.clip_id}.mp4" for clip in chosen)
    assert len(held_out) > 2


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
