from __future__ import annotations

import numpy as np
import pytest

from ipa_core.evaluation import Comparison, compare
from ipa_core.evaluation.comparison import ClipResult, MetricComparison, Model, clip_bootstrap
from ipa_core.evaluation.features import NO_EXTRACTOR, FeaturePair
from ipa_core.records import HandScore
from tests.evaluation.material import paired, result


def metric(comparison: Comparison, name: str) -> MetricComparison:
    return next(metric for metric in comparison.metrics if metric.name == name)


def test_means_and_difference_of_two_pairs() -> None:
    base = [result("a", 0, "base", 0.4), result("b", 0, "base", 0.6)]
    aligned = [result("a", 0, "aligned", 0.6), result("b", 0, "aligned", 0.6)]
    hands = compare(base, aligned, bootstrap=100).metrics[0]
    assert (hands.base, hands.aligned, hands.difference) == pytest.approx((0.5, 0.6, 0.1))
    assert hands.win_rate == 0.75  # one win, one tie


def test_a_planted_gain_is_found() -> None:
    comparison = compare(*paired(24, gain=0.2), bootstrap=500)
    assert comparison.verdict == "better"
    assert comparison.sentence.startswith("Hands, aligned against base: better. Hand score 0.")
    assert "48 pairs on 24 clips" in comparison.sentence


def test_a_planted_loss_is_found() -> None:
    assert compare(*paired(24, gain=-0.2), bootstrap=500).verdict == "worse"


def test_no_effect_is_said_plainly() -> None:
    comparison = compare(*paired(24, gain=0.0, seed=3), bootstrap=500)
    assert comparison.verdict == "no difference shown"
    assert "no difference shown" in comparison.sentence


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        clips = np.repeat([f"{number:02d}" for number in range(30)], 2)
        values = np.repeat(rng.normal(0.1, 0.2, 30), 2) + rng.normal(0, 0.1, 60)
        interval = clip_bootstrap(values, clips, 300, seed=0)
        covered += interval.low <= 0.1 <= interval.high
    assert 0.89 <= covered / 200 <= 0.98


def test_clips_are_drawn_again_not_pairs() -> None:
    """Ten copies of a clip's seed add no evidence: the interval stays as wide."""
    values, clips = np.array([0.0, 1.0, 2.0, 3.0]), np.array(["a", "b", "c", "d"])
    assert clip_bootstrap(values, clips, 500, 0) == clip_bootstrap(np.repeat(values, 10), np.repeat(clips, 10), 500, 0)


def test_the_same_input_in_any_order_gives_the_same() -> None:
    base, aligned = paired(6, gain=0.05)
    assert compare(base[::-1], aligned[::-1], bootstrap=100) == compare(base, aligned, bootstrap=100)


def test_lower_errors_win() -> None:
    base, aligned = paired(2, gain=0.0)
    better = [
        one.model_copy(
            update={
                "score": one.score.model_copy(
                    update={"components": one.score.components.model_copy(update={"error": 0.05})}
                )
            }
        )
        for one in aligned
    ]
    assert metric(compare(base, better, bootstrap=10), "error").win_rate == 1.0


def test_one_clip_has_no_interval_and_says_why() -> None:
    base, aligned = paired(1, gain=0.2)
    comparison = compare(base, aligned, bootstrap=100)
    assert comparison.metrics[0].difference_interval is None
    assert comparison.metrics[0].no_interval == "an interval needs two clips"
    assert comparison.verdict == "no difference shown"


def test_unscorable_videos_are_counted_not_averaged() -> None:
    base = [result("a", 0, "base", 0.4), result("b", 0, "base", None)]
    aligned = [result("a", 0, "aligned", 0.5), result("b", 0, "aligned", None)]
    comparison = compare(base, aligned, bootstrap=10)
    assert (comparison.unscorable_base, comparison.unscorable_aligned) == (1, 1)
    assert comparison.metrics[0].pairs == 1
    assert metric(comparison, "psnr").pairs == 2


def test_nothing_scorable_is_nothing_to_compare() -> None:
    comparison = compare([result("a", 0, "base", None)], [result("a", 0, "aligned", None)], bootstrap=10)
    assert comparison.verdict == "nothing to compare"
    assert comparison.metrics[0].difference is None


def test_a_result_without_counterpart_is_counted() -> None:
    base, aligned = paired(3, gain=0.1)
    comparison = compare(base, aligned[:-1], bootstrap=10)
    assert (comparison.pairs, comparison.unpaired) == (5, 1)


def test_without_extractor_there_is_no_fvd_and_it_says_so() -> None:
    assert compare(*paired(2, gain=0.1), bootstrap=10).fvd.reason == NO_EXTRACTOR


def test_features_give_a_distance() -> None:
    rng = np.random.default_rng(0)
    base, aligned = paired(4, gain=0.1)
    truths = rng.normal(size=(8, 3))

    def with_features(results: list, distance: float) -> list:
        return [
            one.model_copy(update={"fvd": FeaturePair(generated=tuple(truth + distance), truth=tuple(truth))})
            for one, truth in zip(results, truths, strict=True)
        ]

    fvd = compare(with_features(base, 2.0), with_features(aligned, 1.0), bootstrap=10).fvd
    assert (fvd.base, fvd.aligned, fvd.videos) == pytest.approx((12.0, 3.0, 8), abs=1e-4)


def test_a_comparison_survives_json() -> None:
    comparison = compare(*paired(3, gain=0.1), bootstrap=10)
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison


def test_golden_comparison() -> None:
    """When this fails because results changed on purpose, the version of the stage `evaluation` goes up as well."""
    hands = compare(*paired(8, gain=0.1, seed=1), bootstrap=1000).metrics[0]
    assert hands.difference == pytest.approx(0.125008, abs=1e-6)
    assert hands.difference_interval is not None
    assert hands.difference_interval.low == pytest.approx(0.051785, abs=1e-6)
    assert hands.difference_interval.high == pytest.approx(0.193069, abs=1e-6)


def test_drift_is_that_of_the_aligned_model() -> None:
    base, aligned = paired(2, gain=0.1)
    moved = [one.model_copy(update={"drift": drift}) for one, drift in zip(aligned, [0.1, 0.2, 0.3, 0.4], strict=True)]
    assert compare(base, moved, bootstrap=10).drift == 0.25


def test_videos_without_a_true_one_are_left_out_of_what_needs_it() -> None:
    base, aligned = paired(4, gain=0.1)
    of_another = {one.clip_id for one in base[:2]}
    sides = [
        [one.model_copy(update={"metrics": None}) if one.clip_id in of_another else one for one in side]
        for side in (base, aligned)
    ]
    pairs = {metric.name: metric.pairs for metric in compare(*sides, bootstrap=10).metrics}
    assert (pairs["hand_score"], pairs["psnr"], pairs["ssim_hand"]) == (8, 6, 6)


def test_fvd_says_that_there_is_no_true_video() -> None:
    sides = [[one.model_copy(update={"metrics": None}) for one in side] for side in paired(2, gain=0.1)]
    assert compare(*sides, bootstrap=10).fvd.reason == "not computed: there is no true video"


def degenerate(clip: str, seed: int, model: Model) -> ClipResult:
    why = HandScore.none("degenerate: 5 of 5 pictures have one colour (red 0, green 0, blue 0)")
    return result(clip, seed, model, None).model_copy(update={"score": why})


def test_a_degenerate_video_counts_as_0_and_loses_its_pair() -> None:
    base = [result("a", 0, "base", 0.5), result("b", 0, "base", 0.4), degenerate("c", 0, "base")]
    aligned = [result("a", 0, "aligned", 0.9), degenerate("b", 0, "aligned"), result("c", 0, "aligned", 0.3)]
    found = compare(base, aligned, bootstrap=50)
    hands = found.metrics[0]
    assert (hands.pairs, hands.difference, hands.win_rate) == (3, pytest.approx(0.1), pytest.approx(2 / 3))
    assert [change.difference for change in found.by_clip] == [0.4, -0.4, 0.3]
    assert (found.degenerate_base, found.degenerate_aligned, found.unscorable_aligned) == (1, 1, 0)
    assert found.sentence.endswith("Degenerate videos count as 0: 1 of base, 1 of aligned.")


def test_a_comparison_without_degenerate_videos_is_stored_as_before() -> None:
    base, aligned = paired(2, 0.1)
    assert not [name for name in compare(base, aligned, bootstrap=10).model_dump() if "degenerate" in name]
