"""Clips that animate another person than the driving video shows (`clips.references`), retargeted or not."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.engine.inputs import RunInputs
from flows.engine.stage import RunStopped
from flows.engine.summary import RunSummary
from flows.engine.view import View
from flows.engine.walk import Scope
from flows.stages.clips import Clips
from flows.stages.evaluation import clip_results
from flows.stages.poses import posed_clips
from ipa_core import keypoints as kp
from ipa_core.config import ConfigError, PosesConfig, RunConfig
from ipa_core.records import PoseSequence
from ipa_core.video import encode_png
from storage import ActionResult, Store
from storage.digest import digest_bytes
from tests.fakes import FAKES, FakeExtractor, fake_config, write_videos
from tests.flows.conftest import run_fake, whole_run
from tests.flows.invented import keys

PICTURES = {f"person-{shade}.png": encode_png(np.full((40, 60, 3), shade, np.uint8)) for shade in (40, 90, 140, 190)}


def write_pictures(folder: Path) -> str:
    folder.mkdir(parents=True)
    for name, data in PICTURES.items():
        (folder / name).write_bytes(data)
    return str(folder)


@dataclass
class Ran:
    config: RunConfig
    summary: RunSummary
    store: Store

    def made(self, stage: str) -> list[ActionResult]:
        found = self.store.actions.lookup(stage, self.store.actions.keys(stage)).values()
        return [one for one in found if "found" in one.action.inputs]


@pytest.fixture(scope="module")
def ran(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("cross") / "run"))
    config = fake_config(folder, clips__references=write_pictures(folder / "people"))
    return Ran(config, whole_run(config), Store(folder / "store"))


def test_candidates_have_the_picture_in_place_of_the_clips_own(ran: Ran) -> None:
    pictures = {digest_bytes(data) for data in PICTURES.values()}
    assert {one.action.inputs["reference"] for one in ran.made("candidates")} <= pictures
    assert {one.action.inputs["reference"] for one in ran.made("evaluation")} <= pictures


def test_the_conditioning_is_of_that_picture(ran: Ran) -> None:
    from ipa_core.models.conditioning import Conditioning

    for one in ran.made("candidates"):
        name = next(name for name, data in PICTURES.items() if digest_bytes(data) == one.action.inputs["reference"])
        kept = Conditioning.from_bytes(ran.store.objects.get(one.outputs["conditioning"].digest)).reference_latents
        shade = int(name.removeprefix("person-").removesuffix(".png"))
        np.testing.assert_allclose(kept.numpy(), shade / 127.5 - 1, atol=1e-5)


def test_what_needs_a_true_video_is_not_measured(ran: Ran) -> None:
    view = run_fake(ran.config).view
    rows = clip_results(view)
    assert {(row.metrics, row.look, row.drift, row.fvd) for row in rows} == {(None, None, None, None)}
    assert all(row.score.score is not None and row.score.components.sharpness is None for row in rows)


def test_the_report_says_that_there_is_no_true_video(ran: Ran) -> None:
    assert "their videos have no true video, so PSNR, SSIM" in Path(ran.summary.outputs["report"]).read_text()


# Which picture, and in which keys


def invented(tmp_path: Path, name: str, table: str | None = None, **candidates: Any) -> dict[str, Any]:
    clips: dict[str, Any] = {"sources": [str(tmp_path / name / "videos")]}
    if name != "plain":
        clips["references"] = write_pictures(tmp_path / f"{name} people")
    if table is not None:
        (tmp_path / f"{name}.csv").write_text(table)
        clips["metadata"] = str(tmp_path / f"{name}.csv")
    tree = {"name": "invented", "clips": clips, "candidates": {"model": {"path": "owner/model"}, **candidates}}
    return keys(tmp_path / name, RunConfig.model_validate(tree))


def test_references_enter_the_keys_from_the_candidates_on(tmp_path: Path) -> None:
    plain, cross = invented(tmp_path, "plain"), invented(tmp_path, "cross")
    assert [stage for stage in plain if plain[stage] == cross[stage]] == ["clips", "poses"]


def test_a_table_chooses_and_leaves_the_others_their_own_person(tmp_path: Path) -> None:
    plain = invented(tmp_path, "plain")["candidates"]
    one = next(iter(plain))
    table = f"file,reference\n{one.partition(' ')[0]},person-90.png\n"
    cross = invented(tmp_path, "cross", table)["candidates"]
    assert {name for name in plain if plain[name] != cross[name]} == {one}


def test_retargeting_adds_a_pose_for_each_clip_and_keeps_the_others(tmp_path: Path) -> None:
    cross, moved = invented(tmp_path, "cross"), invented(tmp_path, "moved", retarget=True)
    assert cross["poses"].items() < moved["poses"].items()
    assert len(moved["poses"]) == 2 * len(cross["poses"])
    assert all(cross["candidates"][name] != moved["candidates"][name] for name in cross["candidates"])


# Retargeted


class Standing(FakeExtractor):
    """Finds a body: on a single picture, the reference, half as tall and further up."""

    def _pose(self, frames: np.ndarray, presence: np.ndarray, *, body: bool) -> PoseSequence:
        pose = super()._pose(frames, presence, body=body)
        if not body:
            return pose
        size, up = (0.5, 4.0) if len(frames) == 1 else (1.0, 0.0)
        points = pose.keypoints.copy()
        for number, (x, y) in enumerate([(16, 4)] * 5 + [(20, 8), (12, 8)] * 3 + [(19, 20), (13, 20)] * 3):
            points[:, number] = (np.array([x, y]) - 16) * size + 16 - [0, up]
        return replace(pose, keypoints=points)


def standing(config: PosesConfig) -> FakeExtractor:
    return Standing(config)


def test_the_drawn_pose_has_the_proportions_of_the_person_in_the_picture(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 3)
    people = write_pictures(tmp_path / "people")
    config = fake_config(tmp_path, clips__references=people, clips__held_out=0.0, candidates__retarget=True)
    parts = replace(FAKES, pose_extractor=standing)  # type: ignore[arg-type]
    done = run_fake(config, Scope(last="candidates"), parts)
    for _, result in posed_clips(done.view):
        read = done.store.objects.get
        drawn = PoseSequence.from_bytes(read(result.outputs["pose"].digest))
        found = PoseSequence.from_bytes(read(result.action.inputs["pose"]))

        def torso(pose: PoseSequence) -> float:
            return float(pose.keypoints[0, kp.LEFT_HIP, 1] - pose.keypoints[0, kp.LEFT_SHOULDER, 1])

        assert torso(drawn) == pytest.approx(torso(found) / 2)
    (_, group), *_ = done.results.done("candidates")
    assert group.action.inputs["found"] != group.action.inputs["pose"]


def test_a_picture_without_a_body_is_a_finding_about_its_clips(folder: Path) -> None:
    config = fake_config(folder, clips__references=write_pictures(folder / "people"), candidates__retarget=True)
    with pytest.raises(
        RunStopped, match=r"8 x can't be retargeted to its reference image: the reference shows no bone"
    ):
        run_fake(config, Scope(last="poses"))


# Wrong input


def checked(config: RunConfig) -> None:
    Clips().check(View(config, RunInputs(Store(Path(str(config.execution.store))), config, FAKES)))


def test_a_table_that_names_an_unknown_picture_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file,reference\nvideo.mp4,person-91.png\n")
    people = write_pictures(tmp_path / "people")
    config = fake_config(tmp_path, clips__metadata=str(tmp_path / "table.csv"), clips__references=people)
    with pytest.raises(
        ConfigError, match=r"has the reference 'person-91\.png', which is not in .*people; did you mean"
    ):
        checked(config)


def test_a_table_that_names_pictures_without_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file,reference\nvideo.mp4,person-91.png\n")
    with pytest.raises(ConfigError, match=r"has the column reference, but clips\.references names no folder"):
        checked(fake_config(tmp_path, clips__metadata=str(tmp_path / "table.csv")))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"candidates__retarget": True}, "name a folder with pictures of others in clips.references"),
        ({"alignment__latents": "driving", "clips__references": "people"}, "would teach the person of the driving"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        fake_config(tmp_path, **changes)
