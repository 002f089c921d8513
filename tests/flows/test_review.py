"""What people decide enters the selection by content, and nothing else of it does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows.engine.plan import plan_run
from flows.engine.run_folder import RunFolder
from flows.engine.walk import Scope
from flows.outcomes.retention import Policy, collect, drop_unkept, find_garbage
from flows.review.exchange import export_reviews, import_reviews, write_videos
from flows.review.pictures import NAMES, Pictures
from flows.review.queue import Queue, open_queue
from flows.review.session import Session
from flows.stages import STAGES
from flows.stages.selection import decisions, preferred_samples
from ipa_core.config import ConfigError
from ipa_core.records import Decision, Verdict
from storage import Store
from storage.reviews import Review, Reviews
from tests.fakes import FAKES, fake_config
from tests.flows.conftest import Done, run_fake, whole_run

SELECTED = Scope(last="selection")
AT = "2026-01-01T00:00:00.000000+00:00"


def rerun(folder: Path) -> Done:
    return run_fake(fake_config(folder), SELECTED)


def queue_of(folder: Path) -> Queue:
    rerun(folder)
    return open_queue(Store(folder / "store"), None)


def decided(done: Done) -> dict[tuple[str, int], Decision]:
    selected = done.one("selection")
    return {(one.clip_id, one.seed): one for one in decisions(selected[1], done.store)}


def say(folder: Path, candidate: str, verdict: Verdict | None, by: str = "anna", at: str = AT) -> None:
    Reviews(folder / "store").add(Review(candidate=candidate, verdict=verdict, by=by, at=at))


def first_kept(queue: Queue) -> int:
    return next(index for index, one in enumerate(queue.candidates) if one.decision.kept)


def test_a_rejected_candidate_is_dropped_by_the_next_run(folder: Path) -> None:
    queue = queue_of(folder)
    one = queue.candidates[first_kept(queue)]
    say(folder, one.candidate.video, "reject")
    done = rerun(folder)
    assert done.computed() == {"selection": 1}
    found = decided(done)[one.candidate.clip_id, one.candidate.seed]
    assert (found.kept, found.reason.split(",")[0]) == (False, "rejected by hand")


def test_an_accepted_candidate_is_kept_by_the_next_run(folder: Path) -> None:
    queue = queue_of(folder)
    one = next(one for one in queue.candidates if not one.decision.kept)
    say(folder, one.candidate.video, "accept")
    assert decided(rerun(folder))[one.candidate.clip_id, one.candidate.seed].kept


def test_the_same_decision_by_somebody_else_changes_no_key(folder: Path) -> None:
    video = queue_of(folder).candidates[0].candidate.video
    say(folder, video, "accept")
    rerun(folder)
    say(folder, video, "accept", by="ben", at="2026-02-01T00:00:00.000000+00:00")
    assert rerun(folder).computed() == {}


def test_a_decision_about_another_runs_candidate_changes_no_key(folder: Path) -> None:
    rerun(folder)
    say(folder, "0" * 64, "accept")
    assert rerun(folder).computed() == {}


def test_a_decision_that_is_taken_back_brings_the_first_selection_back(folder: Path) -> None:
    video = queue_of(folder).candidates[0].candidate.video
    say(folder, video, "reject")
    rerun(folder)
    say(folder, video, None, at="2026-02-01T00:00:00.000000+00:00")
    assert rerun(folder).computed() == {}


def test_a_plan_says_that_decisions_changed(folder: Path) -> None:
    video = queue_of(folder).candidates[0].candidate.video
    say(folder, video, "reject")
    rows = {row.name: row for row in plan_run(Store(folder / "store"), fake_config(folder), STAGES, FAKES).stages}
    assert rows["selection"].why == {"reviews changed": 1}


def test_driving_poses_enter_the_selection_only_where_they_are_compared(folder: Path) -> None:
    rerun(folder)
    done = run_fake(fake_config(folder, selection__min_pose_distance=0.1), SELECTED)
    selected = done.one("selection")
    assert sorted(selected[0].action.inputs) == ["driving", "scores"]
    # The fake extractor sees the same motion everywhere: the best clip is the only one.
    assert sum(one.kept for one in decided(done).values()) == 1


def test_an_unscorable_candidate_that_was_accepted_is_a_sample_without_a_score(folder: Path) -> None:
    done = rerun(folder)
    entries = done.results["scores"]
    assert entries[0].result is not None
    record = {**entries[0].result.record, "score": None, "unscorable": "no hand", "good_frames": None}
    entries[0] = replace(entries[0], result=replace(entries[0].result, record=record))
    places = {place for place, _ in decided(done).items()}
    done.view.replace("scores", entries[0])
    samples = preferred_samples(done.view, places)
    assert len(samples) == len(places)
    assert [sample.score is None for sample in samples].count(True) == 1


def test_accepting_a_candidate_whose_latents_were_dropped_makes_them_again(folder: Path) -> None:
    config = fake_config(folder, execution__retention="kept")
    done = rerun(folder)
    drop_unkept(run_fake(config, Scope(last="selection", refresh=frozenset({"selection"}))).run)
    one = next(one for one in open_queue(done.store, None).candidates if not one.decision.kept)
    assert not done.store.objects.has(one.candidate.latents)
    say(folder, one.candidate.video, "accept")
    summary = whole_run(config, Scope(last="shards"))
    assert {row.name: row.computed for row in summary.stages if row.computed} == {
        "candidates": 1,
        "selection": 1,
        "shards": 1,
    }


def test_the_queue_begins_at_the_threshold(folder: Path) -> None:
    queue = queue_of(folder)
    distances = [abs(one.score.score - queue.threshold) for one in queue.candidates if one.score.score is not None]
    assert distances == sorted(distances)


def test_the_queue_has_every_candidate_with_its_clip(folder: Path) -> None:
    queue = queue_of(folder)
    assert len(queue.candidates) == len(decided(rerun(folder)))
    assert all(len(queue.clip(one)) == 2 for one in queue.candidates)


def test_a_run_without_a_selection_is_said(folder: Path) -> None:
    run = RunFolder.new(Store(folder / "store"))
    with pytest.raises(ConfigError, match=f"run {run.run_id} has not come to its selection"):
        open_queue(Store(folder / "store"), run.run_id)


def test_the_last_run_with_a_selection_is_taken(folder: Path) -> None:
    queue = queue_of(folder)
    assert RunFolder.new(Store(folder / "store")).run_id != queue.run_id
    assert open_queue(Store(folder / "store"), None).run_id == queue.run_id


def test_scores_that_are_gone_are_said(folder: Path) -> None:
    queue = queue_of(folder)
    store = Store(folder / "store")
    for key in list(store.actions.keys("scores")):
        store.actions.forget("scores", key)
    with pytest.raises(ConfigError, match=f"the scores of run {queue.run_id} were computed again since"):
        open_queue(store, None)


def test_a_session_goes_on_where_the_last_one_stopped(folder: Path) -> None:
    store, queue = Store(folder / "store"), queue_of(folder)
    first = Session(store, queue, "anna")
    for one in queue.candidates[:3]:
        first.decide(one.candidate.video, "accept")
    progress = Session(store, queue, "ben").progress()
    assert (progress.accepted, progress.rejected, progress.next) == (3, 0, 3)


def test_pictures_are_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, one = Store(folder / "store"), queue_of(folder).candidates[0]
    made = {name: Pictures(store).get(one, name) for name in NAMES}
    monkeypatch.setattr("flows.review.pictures.decode_video", None)
    monkeypatch.setattr("flows.review.pictures.frames", None)
    assert {name: Pictures(store).get(one, name) for name in NAMES} == made
    assert all(picture.startswith(b"\xff\xd8") for picture in made.values())


def test_cleaning_up_spares_what_was_reviewed(folder: Path) -> None:
    store, queue = Store(folder / "store"), queue_of(folder)
    Pictures(store).get(queue.candidates[0], NAMES[0])
    say(folder, queue.candidates[0].candidate.video, "accept")
    before = {digest for digest, _ in store.objects.all()}
    collect(store, find_garbage(store, Policy()))
    assert before == {digest for digest, _ in store.objects.all()}
    assert len(Reviews(store.address).standing()) == 1


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_what_is_exported_is_imported_into_another_store(folder: Path, tmp_path: Path, suffix: str) -> None:
    store, queue = Store(folder / "store"), queue_of(folder)
    for one, verdict in zip(queue.candidates, ("accept", "reject"), strict=False):
        say(folder, one.candidate.video, verdict)  # type: ignore[arg-type]
    path = tmp_path / f"decisions{suffix}"
    assert export_reviews(store, queue, path) == 2
    other = Store(tmp_path / "other")
    assert import_reviews(other, path, "somebody", AT) == (2, 2)
    assert Reviews(other.address).standing() == Reviews(store.address).standing()


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_importing_the_same_file_again_adds_nothing(folder: Path, tmp_path: Path, suffix: str) -> None:
    store, queue = Store(folder / "store"), queue_of(folder)
    say(folder, queue.candidates[0].candidate.video, "accept")
    export_reviews(store, queue, tmp_path / f"decisions{suffix}")
    assert import_reviews(store, tmp_path / f"decisions{suffix}", "somebody", AT) == (1, 0)


def test_a_task_of_label_studio_with_two_annotations(tmp_path: Path) -> None:
    """As it exports JSON: one was skipped, the other has a number for a name and its own time."""
    video = "ab" * 32
    result = {
        "id": "x1",
        "from_name": "verdict",
        "to_name": "video",
        "type": "choices",
        "value": {"choices": ["reject"]},
    }
    annotations = [
        {"id": 1, "was_cancelled": True, "result": [], "completed_by": 3, "created_at": "2026-03-09T22:16:08.728353Z"},
        {"id": 2, "was_cancelled": False, "result": [result], "completed_by": 10, "created_at": "2026-03-09T23:00:00Z"},
    ]
    path = tmp_path / "project.json"
    path.write_text(json.dumps([{"id": 7, "data": {"candidate": video}, "annotations": annotations}]))
    store = Store(tmp_path / "store")
    import_reviews(store, path, "somebody", AT)
    expected = Review(
        candidate=video, verdict="reject", by="Label Studio user 10", at="2026-03-09T23:00:00.000000+00:00"
    )
    assert Reviews(store.address).standing() == {video: expected}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "a.csv",
            "candidate,verdict\nxy,accept\n",
            "line 2: a candidate is told by the 64 hex digits of its video, got 'xy'",
        ),
        ("a.csv", f"candidate,verdict\n{'ab' * 32},maybe\n", "the verdict is accept or reject, got 'maybe'"),
        ("a.csv", f"candidate,verdict,at\n{'ab' * 32},accept,today\n", "the time is ISO 8601, got 'today'"),
        ("a.csv", "name,score\n", "it needs the columns candidate and verdict"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "{}", "is no list of Label Studio tasks"),
        ("a.json", '[{"data": {}}]', "task 1 is no task of ours"),
        ("a.txt", "", "the suffix says the format"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        import_reviews(Store(tmp_path / "store"), tmp_path / name, "anna", AT)


def test_a_bad_line_adds_nothing_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"candidate,verdict\n{'ab' * 32},accept\n{'cd' * 32},maybe\n")
    with pytest.raises(ConfigError):
        import_reviews(Store(tmp_path / "store"), tmp_path / "a.csv", "anna", AT)
    assert Reviews(tmp_path / "store").standing() == {}


def test_videos_are_copied_under_the_names_of_the_tasks(folder: Path, tmp_path: Path) -> None:
    store, queue = Store(folder / "store"), queue_of(folder)
    export_reviews(store, queue, tmp_path / "tasks.json")
    write_videos(store, queue, tmp_path / "videos")
    named = {Path(task["data"]["video"]).name for task in json.loads((tmp_path / "tasks.json").read_text())}
    assert {path.name for path in (tmp_path / "videos").iterdir()} == named
