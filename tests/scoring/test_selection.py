from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipa_core.config import SelectionConfig
from ipa_core.records import Candidate, HandScore, PoseSequence, ScoreComponents, ScoredCandidate, Verdict
from ipa_core.scoring import select

NOTHING = ScoreComponents(**dict.fromkeys(ScoreComponents.model_fields))


def candidate(clip: str, seed: int, score: float | None, good_frames: float | None = 1.0) -> ScoredCandidate:
    return ScoredCandidate(
        candidate=Candidate(clip_id=clip, seed=seed, video=f"{clip} {seed}", latents="0b", conditioning="0c"),
        score=HandScore(
            score=score,
            unscorable="no hand can be scored" if score is None else None,
            components=NOTHING,
            good_frames=None if score is None else good_frames,
            hands=(),
        ),
        pose=None,
    )


def kept(
    scored: list[ScoredCandidate],
    verdicts: dict[str, Verdict] | None = None,
    driving: dict[str, PoseSequence] | None = None,
    **config: Any,
) -> list[tuple[str, int]]:
    decisions = select(scored, SelectionConfig(**config), verdicts, driving).decisions
    return [(decision.clip_id, decision.seed) for decision in decisions if decision.kept]


def reasons(scored: list[ScoredCandidate], **config: Any) -> list[str]:
    return [decision.reason for decision in select(scored, SelectionConfig(**config)).decisions]


def test_the_best_of_each_clip_is_kept() -> None:
    scored = [candidate("a", 0, 0.7), candidate("a", 1, 0.8), candidate("b", 0, 0.6)]
    assert kept(scored) == [("a", 1), ("b", 0)]


@pytest.mark.parametrize(("pick", "seed"), [("best", 1), ("worst", 2)])
def test_equal_scores_are_told_apart_by_what_lies_above_their_ceiling(pick: str, seed: int) -> None:
    scored = []
    for number, order in enumerate((1.5, 2.0, 1.2)):
        one = candidate("a", number, 0.6)
        scored.append(one.model_copy(update={"score": one.score.model_copy(update={"order": order})}))
    assert kept(scored, pick=pick) == [("a", seed)]


def test_the_worst_of_each_clip_is_kept_where_asked_for() -> None:
    scored = [candidate("a", 0, 0.7), candidate("a", 1, 0.8), candidate("a", 2, None), candidate("b", 0, 0.6)]
    assert kept(scored, pick="worst") == [("a", 0), ("b", 0)]


def test_worst_picks_still_need_the_threshold() -> None:
    assert kept([candidate("a", 0, 0.4), candidate("a", 1, 0.6)], pick="worst") == [("a", 1)]


def test_candidates_can_stand_in_the_order_of_a_component() -> None:
    one, other = candidate("a", 0, 0.9), candidate("a", 1, 0.6)
    one, other = (
        item.model_copy(
            update={
                "score": item.score.model_copy(update={"components": NOTHING.model_copy(update={"confidence": value})})
            }
        )
        for item, value in ((one, 0.2), (other, 0.7))
    )
    assert kept([one, other], rank_by="confidence") == [("a", 1)]
    assert kept([one, other], rank_by="confidence", pick="worst") == [("a", 0)]
    assert kept([one, other], rank_by="confidence", threshold=0.7) == [("a", 0)]
    assert reasons([one, other], rank_by="confidence") == [
        "score 0.900, confidence 0.200 would do, but per_clip is 1 and the clip has 1 already",
        "score 0.600, confidence 0.700, -0.150 from the clip's median, number 1 of the clip",
    ]


def test_what_lacks_the_component_to_be_ranked_by_is_not_kept() -> None:
    (reason,) = reasons([candidate("a", 0, 0.9)], rank_by="fingers")
    assert reason == "score 0.900, but fingers was not measured, by which candidates are ranked"


def test_random_picks_do_not_depend_on_the_score() -> None:
    clips = [f"clip {number}" for number in range(30)]
    first = [candidate(clip, seed, 0.6 + 0.1 * seed) for clip in clips for seed in range(4)]
    turned = [candidate(clip, seed, 0.9 - 0.1 * seed) for clip in clips for seed in range(4)]
    assert kept(first, pick="random") == kept(turned, pick="random")


def test_random_picks_take_every_place() -> None:
    scored = [candidate(f"clip {number}", seed, 0.6) for number in range(30) for seed in range(4)]
    assert {seed for _, seed in kept(scored, pick="random")} == {0, 1, 2, 3}


def test_equal_scores_go_by_seed() -> None:
    assert kept([candidate("a", 5, 0.7), candidate("a", 2, 0.7)]) == [("a", 2)]


def test_the_threshold_itself_is_enough() -> None:
    assert kept([candidate("a", 0, 0.5)], threshold=0.5) == [("a", 0)]


def test_a_margin_asks_for_a_lead_over_the_clips_median() -> None:
    scored = [candidate("a", 0, 0.70), candidate("a", 1, 0.60), candidate("b", 0, 0.9), candidate("b", 1, 0.6)]
    assert kept(scored, margin=0.1, per_clip=2) == [("b", 0)]


def test_without_a_margin_the_median_does_not_matter() -> None:
    assert kept([candidate("a", 0, 0.7), candidate("a", 1, 0.6)], per_clip=2) == [("a", 0), ("a", 1)]


def test_each_reason_names_its_numbers() -> None:
    scored = [candidate("a", 0, 0.41), candidate("a", 1, 0.8), candidate("a", 2, 0.7), candidate("a", 3, None)]
    assert reasons(scored) == [
        "score 0.410 is below the threshold 0.500",
        "score 0.800, +0.100 from the clip's median, number 1 of the clip",
        "score 0.700 would do, but per_clip is 1 and the clip has 1 already",
        "unscorable: no hand can be scored",
    ]


def test_the_margins_reason() -> None:
    scored = [candidate("a", 0, 0.7), candidate("a", 1, 0.6)]
    assert reasons(scored, margin=0.1)[0] == "score 0.700 is +0.050 from the clip's median; the margin asks for +0.100"


def test_the_median_is_not_moved_by_one_bad_candidate() -> None:
    scored = [candidate("a", 0, 0.80), candidate("a", 1, 0.75), candidate("a", 2, 0.05)]
    assert kept(scored, margin=0.1) == []  # 0.27 above the mean, 0.05 above the median


def test_a_share_takes_the_best_of_all_clips() -> None:
    scored = [candidate("a", 0, 0.9), candidate("a", 1, 0.8), candidate("b", 0, 0.7), candidate("c", 0, 0.6)]
    assert kept(scored, share=0.5, per_clip=2) == [("a", 0), ("a", 1)]


def test_a_small_share_of_few_is_one() -> None:
    assert kept([candidate("a", 0, 0.9), candidate("b", 0, 0.8)], share=0.01) == [("a", 0)]


def test_per_motion_counts_over_the_clips_of_a_source_video() -> None:
    scored = [candidate("aa-000", 0, 0.7), candidate("aa-001", 0, 0.9), candidate("bb-000", 0, 0.6)]
    assert kept(scored, per_motion=1) == [("aa-001", 0), ("bb-000", 0)]


def pose(number: int, shift: float = 0.0) -> PoseSequence:
    points = np.random.default_rng(number).normal(50, 10, (5, 133, 2)).astype(np.float32) + np.float32(shift)
    return PoseSequence(points, np.ones((5, 133), np.float32), 100, 100, "model", "test")


def test_of_two_clips_with_one_motion_the_better_is_kept() -> None:
    scored = [candidate("a", 0, 0.7), candidate("b", 0, 0.9), candidate("c", 0, 0.6)]
    driving = {"a": pose(1), "b": pose(1, shift=7.0), "c": pose(2)}
    assert kept(scored, driving=driving, min_pose_distance=0.1) == [("b", 0), ("c", 0)]


def test_candidates_of_one_clip_are_no_duplicates_of_each_other() -> None:
    scored = [candidate("a", 0, 0.7), candidate("a", 1, 0.9)]
    assert kept(scored, driving={"a": pose(1)}, min_pose_distance=0.1, per_clip=2) == [("a", 0), ("a", 1)]


def test_the_reasons_of_the_limits_name_their_numbers() -> None:
    scored = [
        candidate("aa-0", 0, 0.9),
        candidate("aa-1", 0, 0.8),
        candidate("bb-0", 0, 0.7),
        candidate("cc-0", 0, 0.6),
    ]
    driving = {"aa-0": pose(1), "aa-1": pose(2), "bb-0": pose(1), "cc-0": pose(3)}
    config = SelectionConfig(per_motion=1, min_pose_distance=0.1, share=0.75)
    assert [decision.reason for decision in select(scored, config, {}, driving).decisions][1:] == [
        "score 0.800 would do, but per_motion is 1 and the source video has 1 already",
        "score 0.700 would do, but its motion is 0.000 body sizes from that of clip aa-0; "
        "min_pose_distance asks for 0.100",
        "score 0.600 is number 4 of all candidates; share 0.75 takes 3",
    ]


def test_accepted_by_hand_overrides_the_threshold() -> None:
    assert kept([candidate("a", 0, 0.1)], {"a 0": "accept"}) == [("a", 0)]


def test_accepted_by_hand_overrides_the_limits_and_counts_towards_them() -> None:
    scored = [candidate("a", 0, 0.9), candidate("a", 1, 0.6), candidate("a", 2, 0.55)]
    assert kept(scored, {"a 1": "accept", "a 2": "accept"}) == [("a", 1), ("a", 2)]


def test_an_unscorable_candidate_can_be_accepted_by_hand() -> None:
    assert kept([candidate("a", 0, None)], {"a 0": "accept"}) == [("a", 0)]


def test_rejected_by_hand_makes_room_for_the_next_best() -> None:
    assert kept([candidate("a", 0, 0.9), candidate("a", 1, 0.6)], {"a 0": "reject"}) == [("a", 1)]


def test_the_reason_says_that_a_person_decided() -> None:
    verdicts: dict[str, Verdict] = {"a 0": "accept", "a 1": "reject", "a 2": "accept"}
    scored = [candidate("a", 0, 0.1), candidate("a", 1, 0.9), candidate("a", 2, None)]
    assert [decision.reason for decision in select(scored, SelectionConfig(), verdicts).decisions] == [
        "accepted by hand, score 0.100",
        "rejected by hand, score 0.900",
        "accepted by hand, unscorable: no hand can be scored",
    ]


def test_nothing_kept_tells_the_best_score() -> None:
    selection = select([candidate("a", 0, 0.2), candidate("b", 1, 0.3)], SelectionConfig())
    assert selection.report.kept == 0
    assert selection.best_score == 0.3


def test_no_candidates_at_all() -> None:
    selection = select([], SelectionConfig())
    assert selection.best_score is None
    assert selection.report.candidates == 0


def test_the_four_cases() -> None:
    shares = [1.0, 1.0, 0.0, 0.0, 0.4]  # 10 pairs: 1 both good, 1 both bad, 4 strict, 4 with the mixed one
    scored = [candidate("a", seed, 0.5, share) for seed, share in enumerate(shares)]
    scored += [candidate("a", 9, None), candidate("b", 0, 0.9, 1.0), candidate("c", 0, 0.1, 0.0)]
    report = select(scored, SelectionConfig()).report
    assert (report.clips, report.candidates, report.good, report.bad, report.unscorable) == (3, 8, 3, 3, 1)
    assert (report.both_good_pairs, report.both_bad_pairs, report.mixed_pairs, report.strict_pairs) == (1, 1, 4, 4)
    assert report.clips_with_strict_pair == 1


def test_two_candidates_of_one_seed_are_refused() -> None:
    with pytest.raises(ValueError, match="clip a have the seed 3"):
        select([candidate("a", 3, 0.1), candidate("a", 3, 0.2)], SelectionConfig())


places = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2**63 - 1)), unique=True, min_size=1, max_size=12)
patient = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
scores = st.none() | st.floats(0, 1, allow_nan=False)


@patient
@given(data=st.data(), places=places, order=st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(
    data: st.DataObject, places: list[tuple[str, int]], order: random.Random
) -> None:
    scored = [
        candidate(clip, seed, data.draw(scores), data.draw(st.sampled_from([0.0, 0.5, 1.0]))) for clip, seed in places
    ]
    config = SelectionConfig(threshold=0.3, margin=data.draw(st.sampled_from([0.0, 0.1])), per_clip=2)
    shuffled = scored.copy()
    order.shuffle(shuffled)
    assert select(shuffled, config) == select(scored, config)


@patient
@given(data=st.data(), places=places)
def test_what_is_kept_meets_the_config(data: st.DataObject, places: list[tuple[str, int]]) -> None:
    scored = [candidate(clip, seed, data.draw(scores)) for clip, seed in places]
    selection = select(scored, SelectionConfig(threshold=0.3, per_clip=2))
    chosen = [decision for decision in selection.decisions if decision.kept]
    report = selection.report
    assert len(selection.decisions) == len(scored)
    assert all(decision.score >= 0.3 for decision in chosen)
    assert all(sum(decision.clip_id == clip for decision in chosen) <= 2 for clip in "abc")
    pairs = report.both_good_pairs + report.both_bad_pairs + report.mixed_pairs + report.strict_pairs
    scorable = [
        sum(item.score.score is not None for item in scored if item.candidate.clip_id == clip) for clip in "abc"
    ]
    assert pairs == sum(count * (count - 1) // 2 for count in scorable)


LIMITS = st.fixed_dictionaries(
    {
        "threshold": st.sampled_from([0.0, 0.3]),
        "margin": st.sampled_from([0.0, 0.1]),
        "share": st.sampled_from([0.2, 0.5, 1.0]),
        "per_clip": st.integers(1, 3),
        "per_motion": st.none() | st.integers(1, 3),
        "min_pose_distance": st.sampled_from([0.0, 0.5]),
    }
)
DRIVING = {clip: pose(number) for clip, number in (("a", 1), ("b", 1), ("c", 2))}


@patient
@given(data=st.data(), places=places, limits=LIMITS, order=st.randoms(use_true_random=False))
def test_limits_and_verdicts_hold_together_in_any_order(
    data: st.DataObject, places: list[tuple[str, int]], limits: dict[str, float], order: random.Random
) -> None:
    scored = [candidate(clip, seed, data.draw(scores)) for clip, seed in places]
    said = {item.candidate.video: data.draw(st.sampled_from([None, None, "accept", "reject"])) for item in scored}
    verdicts: dict[str, Verdict] = {video: verdict for video, verdict in said.items() if verdict}
    config = SelectionConfig.model_validate(limits)
    shuffled = scored.copy()
    order.shuffle(shuffled)
    selection = select(shuffled, config, verdicts, DRIVING)
    assert selection == select(scored, config, verdicts, DRIVING)
    for decision in selection.decisions:
        verdict = verdicts.get(f"{decision.clip_id} {decision.seed}")
        assert verdict is None or decision.kept == (verdict == "accept")
    by_rule = [
        decision
        for decision in selection.decisions
        if decision.kept and f"{decision.clip_id} {decision.seed}" not in verdicts
    ]
    assert len(by_rule) <= max(1, int(config.share * len(scored)))
    assert all(sum(one.clip_id == clip for one in by_rule) <= config.per_clip for clip in "abc")
    if config.min_pose_distance and {"a", "b"} <= {
        decision.clip_id for decision in selection.decisions if decision.kept
    }:
        # Only people let two clips of one motion in.
        assert {"a", "b"} <= {video.split()[0] for video, verdict in verdicts.items() if verdict == "accept"}


def test_golden_selection() -> None:
    """When this fails because decisions changed on purpose, the version of the stage `selection` goes up as well."""
    scored = [candidate("a", seed, score) for seed, score in enumerate([0.97, 0.34, 0.71, 0.08])]
    assert kept(scored, threshold=0.3, margin=0.05, per_clip=2) == [("a", 0), ("a", 2)]
