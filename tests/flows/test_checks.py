"""What can be known before any work is checked before it, by plans and runs alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flows.engine.components import model_folder, pose_extractor, score_files
from flows.engine.plan import plan_run
from flows.engine.run import Run
from flows.stages import STAGES
from ipa_core.config import ConfigError, PosesConfig, RunConfig
from storage import Store
from tests.fakes import FAKES, fake_config, write_parted_videos

REAL_CHECKS = replace(FAKES, score_files=score_files)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video of each side: `video-0000.mp4` and `video-0001.mp4`."""
    folder = tmp_path_factory.mktemp("videos")
    write_parted_videos(folder, (0.4,), {("train",): 1, ("held_out",): 1})
    return folder


def planned(config: RunConfig, components: object) -> None:
    plan_run(Store(Path(str(config.execution.store))), config, STAGES, components)  # type: ignore[arg-type]


def run(config: RunConfig, components: object) -> None:
    with Run(config, STAGES, components) as this:  # type: ignore[arg-type]
        this.walk()
    this.check()


both = pytest.mark.parametrize("command", [planned, run])
Command = Callable[[RunConfig, object], None]


def refusal(command: Command, config: RunConfig, components: object = REAL_CHECKS) -> str:
    with pytest.raises(ConfigError) as refused:
        command(config, components)
    assert not list(Path(str(config.execution.store)).glob("actions/*/*"))  # Nothing was computed.
    return str(refused.value)


def config_of(videos: Path, folder: Path, **changes: object) -> RunConfig:
    return fake_config(folder, clips__sources=(str(videos),), **changes)


@both
def test_a_reward_that_is_not_there(command: Command, videos: Path, tmp_path: Path) -> None:
    said = refusal(command, config_of(videos, tmp_path, scores__reward="nowhere:reward"))
    assert said.startswith("scores.reward: nowhere:reward can't be loaded (No module named 'nowhere')")


@both
def test_a_reward_that_is_no_function(command: Command, videos: Path, tmp_path: Path) -> None:
    said = refusal(command, config_of(videos, tmp_path, scores__reward="tests.fakes:FRAMES"))
    assert said.startswith("scores.reward: tests.fakes:FRAMES is no function")


@both
def test_coefficients_that_are_not_there(command: Command, videos: Path, tmp_path: Path) -> None:
    said = refusal(command, config_of(videos, tmp_path, scores__model="nowhere.json"))
    assert said.startswith("scores.model: there is no file nowhere.json")


@both
def test_a_pose_backend_without_its_model(command: Command, videos: Path, tmp_path: Path) -> None:
    config = config_of(videos, tmp_path)
    config = config.model_copy(update={"poses": PosesConfig(backend="dwpose")})
    said = refusal(command, config, replace(FAKES, pose_extractor=pose_extractor))
    assert said.startswith("the dwpose backend needs poses.model, a folder with")


@both
def test_a_feature_extractor_of_another_digest(command: Command, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "i3d.pt").write_bytes(b"network")
    extractor = {"path": str(tmp_path / "i3d.pt"), "sha256": "0" * 64}
    said = refusal(command, config_of(videos, tmp_path, evaluation__fvd=extractor))
    assert said.endswith(f"the config says {'0' * 64}")


@both
def test_a_folder_that_holds_no_second_judge(command: Command, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "judge").mkdir()
    said = refusal(command, config_of(videos, tmp_path, evaluation__judge=str(tmp_path / "judge")))
    assert said.startswith(f"evaluation.judge: {tmp_path / 'judge'} is no second judge: there is no model.json")


@both
def test_a_model_of_a_class_that_nobody_here_loads(command: Command, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text(json.dumps({"_class_name": "LTXPipeline"}))
    config = config_of(videos, tmp_path, candidates__model={"path": str(tmp_path / "model"), "dtype": "float32"})
    said = refusal(command, config, replace(FAKES, model_folder=model_folder))
    assert said.startswith("no model here can load the pipeline class LTXPipeline")


@both
def test_a_model_whose_index_is_half_written(command: Command, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text('{"_class_name": "WanVACEPip')
    config = config_of(videos, tmp_path, candidates__model={"path": str(tmp_path / "model"), "dtype": "float32"})
    said = refusal(command, config, replace(FAKES, model_folder=model_folder))
    assert said.startswith(f"{tmp_path / 'model' / 'model_index.json'} is no whole JSON file")


def test_a_run_without_weights_stops_before_it_cuts_clips(videos: Path, tmp_path: Path) -> None:
    config = config_of(videos, tmp_path, candidates__model={"path": str(tmp_path / "nowhere"), "dtype": "float32"})
    said = refusal(run, config, replace(FAKES, model_folder=model_folder))
    assert said.startswith(f"the model folder '{tmp_path / 'nowhere'}' is not there; set candidates.model.path")


def table(folder: Path, *rows: str) -> str:
    path = folder / "videos.csv"
    path.write_text("\n".join(["file,group,split", *rows]))
    return str(path)


@both
def test_a_row_that_holds_out_a_performer_and_names_no_video(command: Command, videos: Path, tmp_path: Path) -> None:
    rows = table(tmp_path, "video-0000.mp4,ann,train", "Video-0001.MP4,ben,held_out")
    said = refusal(command, config_of(videos, tmp_path, clips__metadata=rows))
    assert said == (
        f"clips.metadata: {rows} gives a split to 'Video-0001.MP4' (did you mean 'video-0001.mp4'?), but no video has "
        "that name, and 1 videos have no row; mend the row or remove it"
    )


def test_rows_of_other_videos_are_told_where_every_video_has_one(videos: Path, tmp_path: Path) -> None:
    rows = table(tmp_path, "video-0000.mp4,ann,train", "video-0001.mp4,ben,held_out", "later.mp4,cat,held_out")
    config = config_of(videos, tmp_path, clips__metadata=rows)
    found = plan_run(Store(tmp_path / "store"), config, STAGES, REAL_CHECKS)
    assert found.notes == (
        "note: held out to judge on: 1 of 2 performers (ben), 1 of 2 videos",
        f"note: rows of {rows} that match no video: 'later.mp4'",
    )
