"""Only videos whose pictures are read otherwise than before get other keys."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from flows.engine.stage import Item
from flows.engine.view import View
from flows.engine.worker import Worker
from flows.stages.clips import Clips, _names, _unchanged
from ipa_core.clips.sources import Video
from ipa_core.video import LARGE, ORDINARY, Look
from storage import Action, ActionResult, Store
from storage.digest import digest_file
from tests.clips.recordings import numbered, record
from tests.fakes import FAKES, fake_config
from tests.flows.invented import InventedInputs, invented
from tests.flows.test_keys import run_config


class Looked(InventedInputs):
    found: Mapping[str, Look]

    @property
    def looks(self) -> Mapping[str, Look]:  # type: ignore[override]
        return {digest: self.found.get(name.name, ORDINARY) for name, digest in self.video_digests.items()}


def viewed(folder: Path, found: Mapping[str, Look], **clips: object) -> View:
    (folder / "videos").mkdir(exist_ok=True)
    for name in ("a.mp4", "b.mp4"):
        (folder / "videos" / name).touch()
    config = run_config(folder, clips=clips)  # type: ignore[arg-type]
    inputs = Looked(Store(folder / "store"), config, None)
    inputs.found = found
    return View(config, inputs)


def actions(view: View) -> list[Action]:
    return [one.action for one in Clips().items(view) if isinstance(one, Item)]


def remember(view: View) -> None:
    """Let the store have the results of the view's actions."""
    for action in actions(view):
        view.store.actions.commit(ActionResult(action, "done", None, {"clips": [], "dropped": []}, {}))


def test_a_trait_changes_the_key_of_its_video_alone(tmp_path: Path) -> None:
    plain = actions(viewed(tmp_path, {}))
    first, second = actions(viewed(tmp_path, {"b.mp4": Look(("hlg", "mirrored"), 30, 30)}))
    assert first == plain[0]
    assert second.config == {**plain[1].config, "reading": ["hlg", "mirrored"]}


@pytest.mark.parametrize(("generation", "reading"), [(1, None), (2, ["large"])])
def test_older_stores_cut_large_videos_as_before(generation: int, reading: list[str] | None, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "ipa-store.json").write_text(json.dumps({"format": 1, "generation": generation}))
    first, _ = actions(viewed(tmp_path, {"a.mp4": Look((LARGE,), 30, 30)}))
    assert first.config.get("reading") == reading


@pytest.mark.parametrize(("least", "reading"), [(8.0, ["uneven"]), (4.0, None), (40.0, None)])
def test_a_rate_is_uneven_where_the_usual_rate_is_enough(
    least: float, reading: list[str] | None, tmp_path: Path
) -> None:
    first, _ = actions(viewed(tmp_path, {"a.mp4": Look((), 5, 30)}, min_source_fps=least))
    assert first.config.get("reading") == reading


@pytest.mark.parametrize(("trait", "stays"), [("untagged", True), ("mirrored", False)])
def test_clips_with_a_wrong_matrix_stay_where_the_store_has_them(trait: str, stays: bool, tmp_path: Path) -> None:
    plain = viewed(tmp_path, {})
    remember(plain)
    found = actions(viewed(tmp_path, {"a.mp4": Look((trait,), 30, 30)}))
    assert (found == actions(plain)) is stays


def test_a_run_says_what_it_reads_again_and_what_stays(tmp_path: Path) -> None:
    remember(viewed(tmp_path, {}))
    looks = {"a.mp4": Look(("untagged",), 30, 30), "b.mp4": Look(("hlg", "mirrored"), 30, 30)}
    kept, again = list(Clips().notes(viewed(tmp_path, looks)))[-3:-1]
    assert kept.startswith("videos of 720 lines or more without a colour tag: 1 keep the clips that this store has")
    assert again == "videos that an earlier version read wrong and that are cut again: 1 (1 x hlg, 1 x mirrored)"


def test_a_run_says_which_files_it_does_not_read(tmp_path: Path) -> None:
    view = viewed(tmp_path, {})
    for name in ("a.braw", "b.txt", "c.txt"):
        (tmp_path / "videos" / name).touch()
    os.mkfifo(tmp_path / "videos" / "d.mp4")
    said = "files in clips.sources that are not read: "
    (note,) = [note for note in Clips().notes(view) if note.startswith(said)]
    assert note == said + "2 x .txt, 1 x .braw, 1 x pipe or broken link"


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_video_that_changes_is_no_result(when: str, tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"one")
    digest = digest_file(video) if when == "meanwhile" else invented("other bytes")
    item = Item("a.mp4", Action("clips", 2, {}, {"video": digest}), source=str(video))
    with pytest.raises(OSError, match=r"a.mp4 has changed since this run began"), _unchanged(video, item):
        video.write_bytes(b"other")


@pytest.mark.parametrize(("name", "told"), [("a.mp4", [0, 0.25, 0.5, 0.75]), ("a.h264", [0, 0])])
def test_a_video_tells_how_far_it_is_cut(name: str, told: list[float], tmp_path: Path) -> None:
    video = record(tmp_path / name, numbered(20), fps=8)  # A raw stream has no length, and 25 fps.
    worker = Worker(Store(tmp_path / "store"), fake_config(tmp_path, clips__frames=5), FAKES)
    shares: list[float] = []
    worker.progress = lambda done, total: shares.append(done / total)
    Clips().compute(Item(name, Action("clips", 2, {}, {"video": digest_file(video)}), source=str(video)), worker)
    assert shares == pytest.approx(told)


def test_a_name_is_shown_on_one_line() -> None:
    videos = [Video("/v/a.mp4"), Video("/v/c\nd.mp4")]
    assert _names(videos) == ["a.mp4", "c?d.mp4"]
