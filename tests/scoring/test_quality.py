from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipa_core.config import ScoreVersion
from ipa_core.records import HandMeasures
from ipa_core.scoring.quality import FINGER_WEIGHTS, PACKAGED, QualityModel, feature_names, seen, utilities
from storage.digest import digest_file

SHARES = st.dictionaries(st.sampled_from(feature_names(3)), st.floats(0, 1))


def hand(frame: int, *, side: str = "left", **measured: float | None) -> HandMeasures:
    known = {"confidence": 0.9, "size": 40.0, "pck": 1.0, "error": 0.0, "bone_consistency": 1.0}
    return HandMeasures(frame=frame, side=side, **{**known, "jitter": 0.0, "sharpness": 1.0, **measured})  # type: ignore[arg-type]


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(measured=SHARES, name=st.sampled_from(feature_names(3)), more=st.floats(0, 1))
def test_no_component_that_gets_better_makes_the_packaged_score_worse(
    measured: dict[str, float], name: str, more: float
) -> None:
    model = QualityModel.load()
    before = measured | {name: min(more, 0.5)}
    assert model.logit(before | {name: max(more, 0.5)}) >= model.logit(before)


def test_the_packaged_model_says_how_it_was_fitted() -> None:
    assert {"command", "people", "kinds", "nuisances", "fingers", "versions", "date"} <= set(QualityModel.load().recipe)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_packaged_model_was_fitted_with_its_finger_network(version: ScoreVersion) -> None:
    model = QualityModel.load(PACKAGED[version])
    assert (model.version, model.recipe["fingers"]) == (version, digest_file(FINGER_WEIGHTS[version]))


@pytest.mark.parametrize(
    ("version", "coefficients", "fingers"),
    [
        (1, "3ffbe1028da18b84", "c4be1d11909857c0"),
        (2, "7c23d622c85cc6af", "88bb90473ee9e9f2"),
        (3, "7330fd1202748ac7", "c8c591e41db7b2da"),
    ],
)
def test_the_files_of_a_version_are_those_of_the_stores_that_have_its_scores(
    version: ScoreVersion, coefficients: str, fingers: str
) -> None:
    assert digest_file(PACKAGED[version]).startswith(coefficients)
    assert digest_file(FINGER_WEIGHTS[version]).startswith(fingers)


@pytest.mark.parametrize(
    ("version", "presence", "known"),
    [
        (2, 1.0, {"presence": 1.0, "error": 0.0, "pck": 0.0, "sway": 0.0, "sharpness": 0.0}),
        (3, 1.0, {"presence": 1.0, "sharpness": 0.9}),
        (3, 0.5, {"presence": 0.5, "error": 0.0, "pck": 0.0, "sharpness": 0.9}),
    ],
)
def test_a_hand_that_only_the_detector_misses_has_no_measures_of_points_since_version_3(
    version: ScoreVersion, presence: float, known: dict[str, float]
) -> None:
    nothing = dict.fromkeys(("pck", "error", "bone_consistency", "jitter"))
    sharpness = 0.9 if version > 2 else None
    found = utilities(hand(0, presence=presence, sharpness=sharpness, **nothing), version)
    assert {name: found[name] for name in ("presence", "error", "pck", "sway", "sharpness") if name in found} == known


def test_more_than_enough_counts_as_enough() -> None:
    model = QualityModel(version=2, bias=0, weights={"mean pck": 1}, typical={}, enough={"mean pck": 0.9}, recipe={})
    assert [model.logit({"mean pck": value}) for value in (0.8, 0.9, 1.0)] == [0.8, 0.9, 0.9]


def test_the_logit_ends_at_the_ceiling() -> None:
    model = QualityModel(version=2, bias=0, weights={"mean pck": 4}, typical={}, ceiling=2.0, recipe={})
    assert [model.logit({"mean pck": value}) for value in (0.25, 0.75)] == [1.0, 2.0]
    assert [model.order({"mean pck": value}) for value in (0.25, 0.75)] == [1.0, 3.0]


def test_negative_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"bias": 0, "weights": {"mean pck": -1}, "typical": {}, "recipe": {}}))
    with pytest.raises(ValueError, match="must be >= 0"):
        QualityModel.load(path)


def test_the_worst_is_the_worst_hand_s_worst_five_frames() -> None:
    hands = [hand(frame, side=side) for frame in range(20) for side in ("left", "right")]
    hands += [hand(20 + frame, side="right", confidence=0.1 * frame) for frame in range(5)]
    assert seen(hands, [1.0] * len(hands), 1).worst["confidence"] == pytest.approx(0.2)


def test_one_bad_frame_counts_a_fifth_in_the_worst() -> None:
    hands = [hand(frame, confidence=0.0 if frame == 7 else 1.0) for frame in range(20)]
    assert seen(hands, [1.0] * 20, 1).worst["confidence"] == pytest.approx(0.8)


def test_version_2_takes_the_worst_over_a_third_of_a_long_clip() -> None:
    hands = [hand(frame, pck=0.0 if frame < 5 else 1.0) for frame in range(30)]
    assert seen(hands, [1.0] * 30, 2).worst["pck"] == pytest.approx(0.5)
    assert seen(hands, [1.0] * 30, 1).worst["pck"] == 0.0


def test_means_follow_the_weights() -> None:
    assert seen([hand(0, confidence=1.0), hand(1, confidence=0.0)], [3.0, 1.0], 1).mean["confidence"] == 0.75


def test_points_of_a_hand_that_was_not_found_are_worth_nothing() -> None:
    lost = hand(0, error=None, bone_consistency=None, jitter=None, sharpness=None, confidence=0.02, pck=0.0)
    found = utilities(lost, 1)
    assert {name: value for name, value in found.items() if value} == {"confidence": 0.02}
    assert "fingers" not in found


def test_a_pixel_of_a_small_hand_is_the_detector_s_error() -> None:
    small, large = (utilities(hand(0, size=size, error=0.07), 2)["error"] for size in (20.0, 200.0))
    assert small == 1.0 > large


def test_a_small_hand_s_fingers_are_sure_enough_earlier() -> None:
    small, large = (utilities(hand(0, size=size, fingers=0.6), 2)["fingers"] for size in (25.0, 200.0))
    assert small == 1.0 > large
