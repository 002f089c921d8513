"""The win rate of blind comparisons."""

from __future__ import annotations

import pytest

from ipa_core.evaluation.preferences import Judgement, preferred


def said(clip: str, won: float, by: str = "anna", left: bool | None = None) -> Judgement:
    return Judgement(clip_id=clip, by=by, won=won, on_the_left=left)


def test_ties_count_half_and_are_said() -> None:
    [one] = preferred([said("a", 1, left=True), said("b", 0.5), said("c", 0, left=True), said("d", 0.5)])
    assert (one.win_rate, one.aligned, one.base, one.same, one.left) == (0.5, 1, 1, 2, 2)
    assert "2 without a difference, which count half; 2 of 2 chose the left video" in one.sentence


def test_clips_are_resampled_not_judgements() -> None:
    # Ten judgements of each of two clips that disagree: the win rate is .5, and a clip drawn twice makes 0 or 1.
    [one] = preferred([said(clip, won) for clip, won in (("a", 1.0), ("b", 0.0)) for _ in range(10)])
    assert one.interval is not None
    assert (one.interval.low, one.interval.high) == (0, 1)


def test_an_interval_has_a_width_where_all_agree() -> None:
    [one] = preferred([said(clip, 1) for clip in "abcd"])
    assert one.interval is not None
    assert (one.interval.low, one.interval.high) == (pytest.approx(0.3976, abs=1e-4), 1)


def test_one_clip_has_no_interval() -> None:
    [one] = preferred([said("a", 1), said("a", 0)])
    assert (one.interval, one.clips, one.win_rate) == (None, 1, 0.5)


def test_several_people_are_summed_and_listed() -> None:
    found = preferred([said("a", 1), said("b", 1), said("a", 0, by="ben"), said("b", 1, by="ben")])
    assert [(one.by, one.win_rate) for one in found] == [("people", 0.75), ("anna", 1), ("ben", 0.5)]


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_answers_changes_nothing(order: int) -> None:
    judgements = [said(clip, won) for clip, won in zip("aabbccdd", (1, 0, 1, 1, 0.5, 1, 0, 1), strict=True)]
    assert preferred(judgements[::order]) == preferred(judgements)


def test_nobody_has_judged() -> None:
    assert preferred([]) == ()
