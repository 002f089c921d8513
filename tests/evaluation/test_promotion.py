from __future__ import annotations

import pytest

from ipa_core.config import RoundsConfig
from ipa_core.evaluation import Comparison, Look, compare, promotion_rule
from ipa_core.records import Ruling
from tests.evaluation.material import paired, result

RULE = RoundsConfig()


def comparison(gain: float, clips: int = 12, spread: float = 0.1) -> Comparison:
    return compare(*paired(clips, gain=gain, spread=spread), bootstrap=500)


def with_change(name: str, difference: float) -> Comparison:
    """A clear win of the hands, with another difference of one metric."""
    found = comparison(0.3)
    metrics = [one.model_copy(update={"difference": difference}) if one.name == name else one for one in found.metrics]
    return found.model_copy(update={"metrics": tuple(metrics)})


def test_a_clear_win_is_promoted_with_its_numbers() -> None:
    ruling = promotion_rule(comparison(0.3), RULE)
    assert (ruling.promote, ruling.clips, ruling.pairs, ruling.win_rate) == (True, 12, 24, 1.0)
    assert ruling.reason == (
        "wins 100% of 24 pairs, 95 % interval 100% to 100%; PSNR +0.00 dB, SSIM +0.000; challenger 1, chance of luck "
        "0.00024 of 0.025"
    )


def test_a_win_that_may_be_chance_is_refused() -> None:
    ruling = promotion_rule(comparison(0.02), RULE)
    assert ruling.win_rate is not None and ruling.win_rate > 0.5
    assert not ruling.promote
    assert "which does not lie above one half" in ruling.reason


def test_a_loss_is_refused() -> None:
    assert not promotion_rule(comparison(-0.3), RULE).promote


def test_equal_models_stand_at_one_half_and_are_refused() -> None:
    base, _ = paired(8, gain=0.1)
    ruling = promotion_rule(
        compare(base, [one.model_copy(update={"model": "aligned"}) for one in base], bootstrap=100), RULE
    )
    assert (ruling.promote, ruling.win_rate) == (False, 0.5)


def test_few_clips_are_refused_however_they_are_won() -> None:
    ruling = promotion_rule(comparison(0.3, clips=5), RULE)
    assert not ruling.promote
    assert ruling.reason == "held-out clips with hand scores to compare: 5; rounds.min_clips asks for 12"


def test_one_clip_has_no_interval() -> None:
    assert promotion_rule(comparison(0.3, clips=1), RoundsConfig(min_clips=1)).reason == "an interval needs two clips"


def test_nothing_to_compare_is_refused() -> None:
    ruling = promotion_rule(compare([], [result("a", 0, "aligned", 0.5)], bootstrap=10), RULE)
    assert (ruling.promote, ruling.win_rate, ruling.psnr_difference) == (False, None, None)


@pytest.mark.parametrize(
    ("metric", "difference", "promoted"),
    [("psnr", -0.5, True), ("psnr", -0.51, False), ("ssim", -0.01, True), ("ssim", -0.011, False)],
)
def test_the_whole_picture_may_lose_no_more_than_the_margin(metric: str, difference: float, promoted: bool) -> None:
    assert promotion_rule(with_change(metric, difference), RULE).promote == promoted


def test_a_refusal_for_the_picture_names_margin_and_setting() -> None:
    assert (
        promotion_rule(with_change("psnr", -0.8), RULE).reason
        == "PSNR falls by 0.80 dB, rounds.max_psnr_drop allows 0.5"
    )


def test_unscorable_pairs_count_for_the_picture_only() -> None:
    base, aligned = paired(8, gain=0.3)
    more = [result("z", 0, "base", None, psnr=20.0)], [result("z", 0, "aligned", None, psnr=3.0)]
    ruling = promotion_rule(compare(base + more[0], aligned + more[1], bootstrap=100), RULE)
    assert (ruling.pairs, ruling.promote) == (16, False)
    assert ruling.psnr_difference == pytest.approx(-1.0)


def test_a_ruling_survives_json() -> None:
    ruling = promotion_rule(comparison(0.3), RULE)
    assert Ruling.model_validate_json(ruling.model_dump_json()) == ruling


@pytest.mark.parametrize(("kept", "promoted"), [(0.46, True), (0.44, False)])
def test_a_win_by_blur_is_no_win(kept: float, promoted: bool) -> None:
    """The base's hands keep half of the true sharpness; a tenth of that is the margin."""
    base, aligned = (
        [one.model_copy(update={"look": Look(**dict.fromkeys(Look.model_fields, value))}) for one in rows]
        for rows, value in zip(paired(12, gain=0.3), (0.5, kept), strict=True)
    )
    ruling = promotion_rule(compare(base, aligned, bootstrap=100), RULE)
    assert (ruling.promote, ruling.sharpness_drop) == (promoted, pytest.approx(1 - kept / 0.5))
    assert promoted or ruling.reason == "hands lose 12% of their sharpness, rounds.max_sharpness_drop allows 10%"


def test_a_comparison_without_sharpness_is_judged_without() -> None:
    ruling = promotion_rule(comparison(0.3), RULE)
    assert (ruling.promote, ruling.sharpness_drop) == (True, None)


def test_all_challengers_together_spend_no_more_than_alpha() -> None:
    limits = [promotion_rule(comparison(0.3), RULE, earlier=earlier).p_limit for earlier in range(30)]
    assert sum(limits) == pytest.approx(0.05 * 30 / 31, abs=1e-4)


def test_the_tenth_challenger_needs_more_than_the_first() -> None:
    """Ten of twelve clips won: p is about .002."""
    base, aligned = paired(12, gain=0.1, spread=0.001)
    last = {"clip010", "clip011"}
    mixed = [
        one.model_copy(update={"score": one.score.model_copy(update={"score": 0.35})}) if one.clip_id in last else one
        for one in aligned
    ]
    found = compare(base, mixed, bootstrap=500)
    first, tenth = (promotion_rule(found, RoundsConfig(alpha=0.9), earlier=earlier) for earlier in (0, 9))
    assert (first.promote, tenth.promote) == (True, False)
    assert tenth.reason.endswith("as challenger 10 of its base model it may spend 0.0082 of rounds.alpha = 0.9")


def test_a_champions_challenger_may_not_lose_to_the_base() -> None:
    ruling = promotion_rule(comparison(0.3), RULE, against_base=comparison(-0.3))
    assert ruling.reason == "wins only 0% of 24 pairs with the base model"
    worse = promotion_rule(comparison(0.3), RULE, against_base=with_change("psnr", -0.8))
    assert worse.reason == "PSNR falls by 0.80 dB against the base model, rounds.max_psnr_drop allows 0.5"


def test_without_true_videos_the_hands_alone_are_judged_and_the_reason_says_so() -> None:
    sides = [[one.model_copy(update={"metrics": None}) for one in side] for side in paired(12, gain=0.3)]
    ruling = promotion_rule(compare(*sides, bootstrap=500), RULE)
    assert (ruling.promote, ruling.psnr_difference) == (True, None)
    assert "; the picture was not judged, because no clip has a true video; " in ruling.reason
