from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_core.records import HandMeasures
from ipa_core.scoring.quality import FEATURES, QualityModel, fit, means, score_of, utilities, worst

NAMES = ("mean confidence", "worst error", "worst fingers")
SHARES = st.dictionaries(st.sampled_from(FEATURES), st.floats(0, 1))


def hand(frame: int, *, side: str = "left", **measured: float | None) -> HandMeasures:
    known = {"confidence": 0.9, "size": 40.0, "pck": 1.0, "error": 0.0, "bone_consistency": 1.0}
    return HandMeasures(frame=frame, side=side, **{**known, "jitter": 0.0, "sharpness": 1.0, **measured})  # type: ignore[arg-type]


def samples(shift: float, seed: int) -> list[dict[str, float]]:
    draws = np.random.default_rng(seed).uniform(0, 0.6, (40, len(NAMES))) + shift
    return [dict(zip(NAMES, row, strict=True)) for row in draws]


@given(measured=SHARES, name=st.sampled_from(FEATURES), more=st.floats(0, 1))
def test_no_component_that_gets_better_makes_the_packaged_score_worse(
    measured: dict[str, float], name: str, more: float
) -> None:
    model = QualityModel.load()
    before = measured | {name: min(more, 0.5)}
    assert model.logit(before | {name: max(more, 0.5)}) >= model.logit(before)


def test_the_packaged_model_says_how_it_was_fitted() -> None:
    assert {"command", "people", "kinds", "fingers", "versions", "date"} <= set(QualityModel.load().recipe)


def test_the_packaged_model_was_fitted_with_the_packaged_finger_network() -> None:
    from ipa_core.scoring.quality import FINGER_WEIGHTS
    from storage.digest import digest_file

    assert QualityModel.load().recipe["fingers"] == digest_file(FINGER_WEIGHTS)


def test_a_fit_tells_its_data_apart() -> None:
    model = fit(samples(0.4, 1), samples(0.0, 2), recipe={}, names=NAMES)
    clean, spoilt = ([score_of(model.logit(one)) for one in samples(shift, 3)] for shift in (0.4, 0.0))
    assert np.mean(clean) > 0.5 > np.mean(spoilt)


def test_a_fit_is_reproducible() -> None:
    fits = [fit(samples(0.4, 1), samples(0.0, 2), recipe={}, names=NAMES) for _ in range(2)]
    assert fits[0] == fits[1]


def test_what_is_higher_in_spoilt_videos_gets_no_weight() -> None:
    clean, spoilt = samples(0.4, 1), samples(0.0, 2)
    for one, other in zip(clean, spoilt, strict=True):
        one["worst fingers"], other["worst fingers"] = 0.1, 0.9
    assert "worst fingers" not in fit(clean, spoilt, recipe={}, names=NAMES).weights


def test_a_fit_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="one of the two is missing"):
        fit(samples(0.4, 1), [], recipe={})


def test_negative_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"bias": 0, "weights": {"mean pck": -1}, "typical": {}, "recipe": {}}))
    with pytest.raises(ValueError, match="must be >= 0"):
        QualityModel.load(path)


def test_the_worst_is_the_worst_hand_s_worst_five_frames() -> None:
    hands = [hand(frame, side=side) for frame in range(20) for side in ("left", "right")]
    hands += [hand(20 + frame, side="right", confidence=0.1 * frame) for frame in range(5)]
    assert worst(hands)["confidence"] == pytest.approx(0.2)


def test_one_bad_frame_counts_a_fifth_in_the_worst() -> None:
    hands = [hand(frame, confidence=0.0 if frame == 7 else 1.0) for frame in range(20)]
    assert worst(hands)["confidence"] == pytest.approx(0.8)


def test_means_follow_the_weights() -> None:
    assert means([hand(0, confidence=1.0), hand(1, confidence=0.0)], [3.0, 1.0])["confidence"] == 0.75


def test_points_of_a_hand_that_was_not_found_are_worth_nothing() -> None:
    lost = hand(0, error=None, bone_consistency=None, jitter=None, sharpness=None, confidence=0.02, pck=0.0)
    seen = utilities(lost)
    assert {name: value for name, value in seen.items() if value} == {"confidence": 0.02}
    assert "fingers" not in seen
