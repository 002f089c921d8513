"""What people decide enters the selection by content, and nothing else of it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.engine.plan import plan_run
from flows.engine.run_folder import RunFolder
from flows.engine.walk import Scope
from flows.outcomes.retention import Policy, collect, drop_unkept, find_garbage
from flows.review.filters import NEAR, chosen
from flows.review.pictures import NAMES, Pictures
from flows.review.queue import Queue, open_queue
from flows.review.session import Session
from flows.stages import STAGES
from flows.stages.selection import decisions, preferred_samples
from ipa_core.config import ConfigError
from ipa_core.records import Answer, Decision, ReviewRule
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


def say(folder: Path, candidate: str, verdict: Answer | None, by: str = "anna", at: str = AT) -> None:
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
        open_queue(Store(folder / "store"), RunFolder(Store(folder / "store"), run.run_id))


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
    second = Session(store, queue, "ben")
    assert (second.progress().accepted, chosen(second, "undecided")[0]) == (3, 3)


def test_a_blind_session_begins_anew(folder: Path) -> None:
    store, queue = Store(folder / "store"), queue_of(folder)
    Session(store, queue, "anna").decide(queue.candidates[0].candidate.video, "accept")
    blind = Session(store, queue, "ben", blind=True)
    assert (blind.progress().accepted, chosen(blind, "undecided")[0]) == (0, 0)


def test_candidates_of_a_clip_are_in_the_order_of_their_numbers(folder: Path) -> None:
    queue = queue_of(folder)
    clip = [queue.candidates[index] for index in queue.clip(queue.candidates[0])]
    assert [(one.number, one.name.split()[-2:]) for one in clip] == [
        (number, ["candidate", str(number)]) for number in range(2)
    ]


def test_filters_choose_by_score_and_name(folder: Path) -> None:
    queue = queue_of(folder)
    first = queue.candidates[0]
    unscorable = replace(first, score=first.score.model_copy(update={"score": None, "unscorable": "no hand"}))
    queue = replace(queue, candidates=(*queue.candidates, unscorable), threshold=first.score.score or 0.0)
    session = Session(Store(folder / "store"), queue, "anna")
    last = len(queue.candidates) - 1
    near = [abs((one.score.score or 9.0) - queue.threshold) <= NEAR for one in queue.candidates]
    assert chosen(session, "near") == [index for index, is_near in enumerate(near) if is_near]
    assert chosen(session, "unscorable") == [last]
    name = first.name.rpartition(" candidate")[0]
    assert chosen(session, text=name.upper()) == [*sorted(queue.clip(first))]
    assert chosen(session) == list(range(last + 1))


def test_filters_choose_by_reviewers(folder: Path) -> None:
    store, queue = Store(folder / "store"), queue_of(folder)
    said: dict[int, dict[str, Answer]] = {
        0: {"anna": "accept", "ben": "reject"},
        1: {"anna": "accept", "ben": "unsure"},
        2: {"ben": "reject"},
    }
    for index, reviews in said.items():
        for by, answer in reviews.items():
            Session(store, queue, by).decide(queue.candidates[index].candidate.video, answer)
    session = Session(store, queue, "eva")
    assert chosen(session, by="anna") == [0, 1]
    assert (chosen(session, "differ"), chosen(session, "unsure", by="anna")) == ([0], [1])
    assert chosen(session, "undecided")[0] == 3


@pytest.mark.parametrize(("rule", "kept"), [("latest", False), ("any", True), ("all", False)])
def test_the_rule_decides_where_reviewers_differ(folder: Path, rule: ReviewRule, kept: bool) -> None:
    one = queue_of(folder).candidates[0]
    say(folder, one.candidate.video, "accept", by="anna")
    say(folder, one.candidate.video, "reject", by="ben", at="2026-02-01T00:00:00.000000+00:00")
    done = run_fake(fake_config(folder, selection__reviewers=rule), SELECTED)
    decision = decided(done)[one.candidate.clip_id, one.candidate.seed]
    assert (decision.kept, decision.reason.split(",")[0]) == (kept, f"{'accept' if kept else 'reject'}ed by hand")


def test_unsure_leaves_the_first_selection(folder: Path) -> None:
    video = queue_of(folder).candidates[0].candidate.video
    say(folder, video, "unsure")
    assert rerun(folder).computed() == {}


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
    assert len(Reviews(store.address).histories()) == 1
