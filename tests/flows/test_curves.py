from flows.outcomes.curves import about_curves
from ipa_core.config import AlignmentConfig


def test_a_method_that_learns_from_losers_has_a_gap_of_both():
    about = about_curves(AlignmentConfig(method="dpo", time_weight="flat"))
    assert about["gap"] == "e_ref - e_theta, mean of preferred and other videos"


def test_the_weight_of_time_is_that_of_the_config():
    assert "(1 - t)^2; " in about_curves(AlignmentConfig())["logit"]
    assert "the mean of (1 - t)^2; " in about_curves(AlignmentConfig(time_weight="flat"))["logit"]
