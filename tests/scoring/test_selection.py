from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipa_core.config import SelectionConfig
from ipa_core.records import Candidate, HandScore, ScoreComponents, ScoredCandidate
from ipa_core.scoring import select

NOTHING = ScoreComponents(**dict.fromkeys(ScoreComponents.model_fields))


def candidate(clip: str, seed: int, score: float | None, good_frames: float | None = 1.0) -> ScoredCandidate:
    return ScoredCandidate(
        candidate=Candidate(clip_id=clip, seed=seed, video="0a", latents="0b", conditioning="0c"),
        score=HandScore(
            score=score,
            unscorable="no hand can be scored" if score is None else None,
            components=NOTHING,
            good_frames=None if score is None else good_frames,
            hands=(),
        ),
        pose=None,
    )


def kept(scored: list[ScoredCandidate], **config: float) -> list[tuple[str, int]]:
    decisions = select(scored, SelectionConfig(**config)).decisions
    return [(decision.clip_id, decision.seed) for decision in decisions if decision.kept]


def reasons(scored: list[ScoredCandidate], **config: float) -> list[str]:
    return [decision.reason for decision in select(scored, SelectionConfig(**config)).decisions]


def test_the_best_of_each_clip_is_kept() -> None:
    scored = [candidate("a", 0, 0.7), candidate("a", 1, 0.8), candidate("b", 0, 0.6)]
    assert kept(scored) == [("a", 1), ("b", 0)]


def test_equal_scores_go_by_seed() -> None:
    assert kept([candidate("a", 5, 0.7), candidate("a", 2, 0.7)]) == [("a", 2)]


def test_the_threshold_itself_is_enough() -> None:
    assert kept([candidate("a", 0, 0.5)], threshold=0.5) == [("a", 0)]


def test_a_margin_asks_for_a_lead_over_the_clips_mean() -> None:
    scored = [candidate("a", 0, 0.70), candidate("a", 1, 0.60), candidate("b", 0, 0.9), candidate("b", 1, 0.6)]
    assert kept(scored, margin=0.1, per_clip=2) == [("b", 0)]


def test_without_a_margin_the_mean_does_not_matter() -> None:
    assert kept([candidate("a", 0, 0.7), candidate("a", 1, 0.6)], per_clip=2) == [("a", 0), ("a", 1)]


def test_each_reason_names_its_numbers() -> None:
    scored = [candidate("a", 0, 0.41), candidate("a", 1, 0.8), candidate("a", 2, 0.7), candidate("a", 3, None)]
    assert reasons(scored) == [
        "score 0.410 is below the threshold 0.500",
        "score 0.800, +0.163 from the clip's mean, number 1 of the clip",
        "score 0.700 would do, but per_clip is 1 and the clip has better ones",
        "unscorable: no hand can be scored",
    ]


def test_the_margins_reason() -> None:
    scored = [candidate("a", 0, 0.7), candidate("a", 1, 0.6)]
    assert reasons(scored, margin=0.1)[0] == "score 0.700 is +0.050 from the clip's mean; the margin asks for +0.100"


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


def test_golden_selection() -> None:
    """When this fails because decisions changed on purpose, the version of the stage `selection` goes up as well."""
    scored = [candidate("a", seed, score) for seed, score in enumerate([0.97, 0.34, 0.71, 0.08])]
    assert kept(scored, threshold=0.3, margin=0.05, per_clip=2) == [("a", 0), ("a", 2)]
