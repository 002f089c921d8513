"""`ipa score calibrate`: from reviews to the threshold of the next selection."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flows.engine.run_folder import RunFolder
from flows.engine.walk import Scope
from flows.review.queue import open_queue
from ipa_core.config import ConfigError, RunConfig
from tests.fakes import fake_config, write_videos
from tests.flows.conftest import Done, run_fake
from tests.flows.test_cli import call
from tests.flows.test_review import say

Capture = pytest.CaptureFixture[str]


def settings(folder: Path, **changes: object) -> RunConfig:
    # Many of the fake candidates reach the highest score of version 2; in version 1 all scores differ.
    some = {"clips__held_out": 0.0, "candidates__per_clip": 8, "selection__per_clip": 8, "scores__version": 1}
    return fake_config(folder, **(some | changes))


def run(config: RunConfig) -> Done:
    done = run_fake(config, Scope(last="selection"))
    record = RunFolder.new(done.store)
    record.write_config(config)
    record.write_items(done.results)
    return done


@pytest.fixture(scope="module")
def reviewed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose reviewer accepts the better half of its 40 candidates."""
    folder = tmp_path_factory.mktemp("reviewed")
    write_videos(folder / "videos", 5)
    done = run(settings(folder))
    candidates = open_queue(done.store, None).candidates
    for place, one in enumerate(sorted(candidates, key=lambda one: one.score.score or 0.0)):
        say(folder, one.candidate.video, "accept" if place >= len(candidates) / 2 else "reject")
    return folder


@pytest.fixture
def reviewed(reviewed_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(reviewed_once, tmp_path / "run"))
    monkeypatch.setenv("IPA_HOME", str(folder / "store"))
    return folder


def calibrated(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> dict[str, object]:
    code, out, err = call(monkeypatch, capsys, "score", "calibrate", "last", "--json")
    assert code == 0, err
    found: dict[str, object] = json.loads(out)
    return found


def test_the_next_selection_keeps_what_people_keep(
    reviewed: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    about = calibrated(monkeypatch, capsys)
    shutil.rmtree(reviewed / "store" / "reviews")  # The rules alone decide.
    done = run(settings(reviewed, selection__calibration=about["file"], selection__threshold=0.5))
    assert done.computed() == {"selection": 1}
    queue = open_queue(done.store, None)
    scores = [one.score.score or 0.0 for one in queue.candidates]
    kept = [one.score.score or 0.0 for one in queue.candidates if one.decision.kept]
    assert queue.threshold == about["threshold"]
    assert len(kept) == len(scores) / 2 == about["after"]["candidates"]  # type: ignore[index]
    assert min(kept) >= queue.threshold > max(score for score in scores if score not in kept)
    assert about["before"]["candidates"] == sum(score >= 0.1 for score in scores)  # type: ignore[index]


def test_the_same_decisions_make_the_same_file_and_key(
    reviewed: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    first = calibrated(monkeypatch, capsys)
    data = Path(str(first["file"])).read_bytes()
    assert calibrated(monkeypatch, capsys) == first
    assert Path(str(first["file"])).read_bytes() == data
    moved = reviewed / "elsewhere.json"
    moved.write_bytes(data)
    run(settings(reviewed, selection__calibration=first["file"]))
    assert run(settings(reviewed, selection__calibration=str(moved))).computed() == {}


def test_scores_of_another_kind_are_refused(reviewed: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    file = calibrated(monkeypatch, capsys)["file"]
    with pytest.raises(ConfigError, match=r"was fitted on the scores of run .*, and this config scores otherwise"):
        run(settings(reviewed, selection__calibration=file, scores__pck_radius=0.3))


def test_a_run_with_few_reviews_is_one_sentence(
    reviewed: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    shutil.rmtree(reviewed / "store" / "reviews")
    code, _, err = call(monkeypatch, capsys, "score", "calibrate", "last")
    assert (code, "has 0 accepted and 0 rejected candidates with a score" in err) == (1, True)


def test_the_text_says_what_it_would_have_kept(
    reviewed: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    code, out, _ = call(monkeypatch, capsys, "score", "calibrate", "last")
    assert code == 0
    assert "20 accepted and 20 rejected candidates of 5 clips" in out
    assert "keeps 20 of 40 candidates, of" in out
