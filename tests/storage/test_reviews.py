"""Every review is kept whole, and the latest one stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_core.records import Answer, ReviewRule, Verdict
from storage import StoreError
from storage.digest import digest_bytes
from storage.reviews import Review, Reviews, verdict_of, verdicts

DANCE, WAVE = digest_bytes(b"dance"), digest_bytes(b"wave")


def said(verdict: Answer | None, second: int = 0, candidate: str = DANCE, by: str = "anna") -> Review:
    return Review(candidate=candidate, verdict=verdict, by=by, at=f"2026-01-01T00:00:{second:02d}.000000+00:00")


def test_what_was_said_is_there_for_the_next_process(tmp_path: Path) -> None:
    Reviews(tmp_path).add(said("accept"))
    assert Reviews(tmp_path).histories() == {DANCE: [said("accept")]}


def test_an_open_one_sees_what_others_add(tmp_path: Path) -> None:
    reviews = Reviews(tmp_path)
    assert reviews.histories() == {}
    Reviews(tmp_path).add(said("reject"))
    assert reviews.histories() == {DANCE: [said("reject")]}


def test_the_latest_stands_and_the_earlier_ones_are_kept(tmp_path: Path) -> None:
    reviews = Reviews(tmp_path)
    for number, verdict in enumerate(("accept", "reject", "accept")):
        reviews.add(said(verdict, number))
    assert reviews.history(DANCE)[-1] == said("accept", 2)
    assert [review.verdict for review in reviews.history(DANCE)] == ["accept", "reject", "accept"]


def test_one_made_earlier_does_not_replace_when_it_is_added_later(tmp_path: Path) -> None:
    reviews = Reviews(tmp_path)
    reviews.add(said("accept", 5))
    reviews.add(said("reject", 1))
    assert reviews.history(DANCE)[-1].verdict == "accept"


def test_of_one_time_the_one_added_later_stands(tmp_path: Path) -> None:
    reviews = Reviews(tmp_path)
    reviews.add(said("accept"))
    reviews.add(said("reject"))
    assert reviews.history(DANCE)[-1].verdict == "reject"


def test_one_taken_back_is_no_verdict(tmp_path: Path) -> None:
    reviews = Reviews(tmp_path)
    reviews.add(said("accept", 0))
    reviews.add(said(None, 1))
    reviews.add(said("reject", 0, WAVE))
    assert verdicts(reviews.histories()) == {WAVE: "reject"}


def test_unsure_is_kept_and_is_no_verdict(tmp_path: Path) -> None:
    Reviews(tmp_path).add(said("unsure"))
    assert Reviews(tmp_path).history(DANCE) == [said("unsure")]
    assert verdicts(Reviews(tmp_path).histories()) == {}


A, R, U, BACK = "accept", "reject", "unsure", None


@pytest.mark.parametrize(
    ("history", "latest", "any_", "majority", "all_"),
    [
        ([("anna", A)], A, A, A, A),
        ([("anna", A), ("ben", R)], R, A, None, R),
        ([("anna", R), ("ben", A)], A, A, None, R),
        ([("anna", R), ("ben", R)], R, R, R, R),
        ([("anna", A), ("ben", A), ("eva", R)], R, A, A, R),
        ([("anna", R), ("anna", A)], A, A, A, A),
        ([("anna", A), ("ben", U)], None, A, A, A),
        ([("anna", A), ("ben", R), ("ben", BACK)], None, A, A, A),
        ([("anna", U)], None, None, None, None),
        ([("anna", A), ("anna", BACK)], None, None, None, None),
    ],
)
def test_the_rule_makes_one_verdict_of_several_reviews(
    history: list[tuple[str, Answer | None]], latest: Verdict, any_: Verdict, majority: Verdict, all_: Verdict
) -> None:
    reviews = [said(answer, second, by=by) for second, (by, answer) in enumerate(history)]
    rules: tuple[ReviewRule, ...] = ("latest", "any", "majority", "all")
    assert [verdict_of(reviews, rule) for rule in rules] == [latest, any_, majority, all_]


def test_two_who_decide_at_once_are_both_kept(tmp_path: Path) -> None:
    one, other = Reviews(tmp_path), Reviews(tmp_path)
    one.history(DANCE), other.history(DANCE)
    one.add(said("accept", 0, by="anna"))
    other.add(said("reject", 1, by="ben"))
    assert [review.by for review in Reviews(tmp_path).history(DANCE)] == ["anna", "ben"]


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    Reviews(tmp_path).add(said("accept"))
    [path] = (tmp_path / "reviews").rglob("*.json")
    path.write_bytes(path.read_bytes().replace(b"accept", b"reject"))
    with pytest.raises(StoreError, match=f"reviews/{DANCE[:2]}/{DANCE}-000001.json is damaged"):
        Reviews(tmp_path).histories()


def test_a_candidate_is_told_by_its_digest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex digits, got 'dance'"):
        Reviews(tmp_path).add(said("accept", candidate="dance"))


def test_reviews_lie_in_buckets_too(bucket: str) -> None:
    Reviews(bucket).add(said("accept", 0))
    Reviews(bucket).add(said("reject", 1))
    assert Reviews(bucket).histories() == {DANCE: [said("accept", 0), said("reject", 1)]}


EVENTS = st.lists(
    st.tuples(st.sampled_from([DANCE, WAVE]), st.sampled_from(["accept", "reject", None]), st.integers(0, 5)),
    max_size=8,
)


@settings(max_examples=30, deadline=None)
@given(events=EVENTS)
def test_the_history_is_in_the_order_of_the_times(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, Verdict | None, int]]
) -> None:
    reviews = Reviews(tmp_path_factory.mktemp("store"))
    for candidate, verdict, second in events:
        reviews.add(said(verdict, second, candidate))
    expected: dict[str, list[Review]] = {}
    for candidate, verdict, second in sorted(events, key=_time):
        expected.setdefault(candidate, []).append(said(verdict, second, candidate))
    assert reviews.histories() == expected


def _time(event: tuple[str, Verdict | None, int]) -> int:
    return event[2]


def test_a_stray_file_beside_the_reviews_hurts_nobody(tmp_path: Path) -> None:
    Reviews(tmp_path).add(said("accept"))
    [path] = (tmp_path / "reviews").rglob("*.json")
    path.with_name(f"{path.name}.orig").write_text("not a review")
    Reviews(tmp_path).add(said("reject", 1))
    assert [review.verdict for review in Reviews(tmp_path).history(DANCE)] == ["accept", "reject"]
