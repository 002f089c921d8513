from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ipa_core.scoring import measures
from tests.scoring.hands import FRAMES, moving_hands, open_hand, pose_of, video_of

coordinates = st.floats(-200, 200, allow_nan=False, width=32).map(lambda value: round(value, 2))
hands = arrays(np.float64, (3, 21, 2), elements=coordinates)
shifts = st.tuples(coordinates, coordinates)
patient = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
scales = st.sampled_from([0.25, 0.5, 2.0, 3.0])


@pytest.fixture
def driving() -> np.ndarray:
    return moving_hands(size=40.0)["left"]


def test_hand_points_are_nan_where_nothing_was_found() -> None:
    points = measures.hand_points(pose_of({"left": moving_hands()["left"]}), "right")
    assert np.isnan(points).all()


def test_hand_size_is_the_longer_side_of_the_box(driving: np.ndarray) -> None:
    np.testing.assert_allclose(measures.hand_size(driving), 40.0)


def test_hand_size_ignores_points_not_found() -> None:
    points = np.full((1, 21, 2), np.nan)
    points[0, :2] = [(0, 0), (3, 7)]
    assert measures.hand_size(points).tolist() == [7.0]


def test_share_inside_counts_found_points() -> None:
    points = np.full((1, 21, 2), np.nan)
    points[0, :4] = [(-1, 5), (5, 5), (10, 10), (5, 11)]
    assert measures.share_inside(points, 10, 10).tolist() == [0.5]


def test_pck_counts_points_within_the_radius(driving: np.ndarray) -> None:
    points = driving.copy()
    points[:, :7] += (8.1, 0.0)  # 0.2 of 40 pixels is 8
    points[:, 7:14] += (7.9, 0.0)
    np.testing.assert_allclose(measures.pck(points, driving, 0.2), 14 / 21)


def test_pck_counts_a_missing_point_as_a_miss(driving: np.ndarray) -> None:
    points = driving.copy()
    points[:, :7] = np.nan
    np.testing.assert_allclose(measures.pck(points, driving, 0.2), 14 / 21)


def test_normalised_error_is_the_mean_distance_in_hand_sizes(driving: np.ndarray) -> None:
    points = driving + np.array([3.0, 4.0])
    points[:, :10] = driving[:, :10]
    np.testing.assert_allclose(measures.normalised_error(points, driving), 5 / 40 * 11 / 21)


def test_bone_lengths_of_three_four_five() -> None:
    points = np.zeros((1, 21, 2))
    points[0, 1] = (3, 4)
    assert measures.bone_lengths(points)[0, :2].tolist() == [5.0, 5.0]


def test_bone_consistency_falls_by_the_share_that_bones_change(driving: np.ndarray) -> None:
    factors = np.array([1.1, 0.9, 1.1, 0.9])
    breathing = driving[:4] * factors[:, None, None]
    np.testing.assert_allclose(measures.bone_consistency(breathing, driving[:4]), 0.9)


def test_bone_consistency_forgives_a_hand_that_is_larger_throughout(driving: np.ndarray) -> None:
    np.testing.assert_allclose(measures.bone_consistency(driving * 1.3, driving), 1.0)


def test_bone_consistency_needs_two_frames(driving: np.ndarray) -> None:
    assert np.isnan(measures.bone_consistency(driving[:1], driving[:1])).all()


def test_jitter_of_a_hand_that_jumps_once(driving: np.ndarray) -> None:
    points = driving.copy()
    points[2] += (0.0, 4.0)  # second differences 4, -8, 4 over 40 pixels
    np.testing.assert_allclose(measures.jitter(points, driving), [np.nan, 0.1, 0.2, 0.1, np.nan])


def test_jitter_forgives_the_driving_hands_own_motion() -> None:
    rng = np.random.default_rng(0)
    shaking = open_hand(40, (60, 60)) + rng.normal(0, 5, (FRAMES, 1, 2))
    np.testing.assert_allclose(measures.jitter(shaking + 2.0, shaking)[1:-1], 0.0, atol=1e-12)


def test_a_blurred_hand_is_less_sharp_and_the_same_hand_equally_so(driving: np.ndarray) -> None:
    video = video_of({"left": driving})
    blurred = np.stack([cv2.GaussianBlur(picture, (0, 0), 2) for picture in video])
    np.testing.assert_allclose(measures.relative_sharpness(video, video, driving), 1.0)
    assert (measures.relative_sharpness(blurred, video, driving) < 0.2).all()


def test_sharpness_is_not_measured_on_a_flat_driving_picture(driving: np.ndarray) -> None:
    flat = np.full_like(video_of({"left": driving}), 90)
    assert np.isnan(measures.relative_sharpness(flat, flat, driving)).all()


@patient
@given(points=hands, driving=hands)
def test_measures_stay_in_their_ranges(points: np.ndarray, driving: np.ndarray) -> None:
    driving[:, 0] += 500  # not a single point, so that there is a size
    pck = measures.pck(points, driving, 0.2)
    consistency = measures.bone_consistency(points, driving)
    assert ((pck >= 0) & (pck <= 1)).all()
    assert ((consistency >= 0) & (consistency <= 1)).all()
    assert (measures.normalised_error(points, driving) >= 0).all()
    assert (measures.jitter(points, driving)[1:-1] >= 0).all()


@patient
@given(points=hands, driving=hands, shift=shifts, scale=scales)
def test_moving_and_scaling_both_hands_changes_nothing(
    points: np.ndarray, driving: np.ndarray, shift: tuple[float, float], scale: float
) -> None:
    driving[:, 0] += 500
    for measure in (measures.normalised_error, measures.bone_consistency, measures.jitter):
        np.testing.assert_allclose(
            measure(points * scale + shift, driving * scale + shift), measure(points, driving), atol=1e-9
        )


@patient
@given(points=hands)
def test_a_hand_agrees_perfectly_with_itself(points: np.ndarray) -> None:
    points[:, 0] += 500
    assert measures.pck(points, points, 0.2).tolist() == [1.0] * 3
    assert measures.normalised_error(points, points).tolist() == [0.0] * 3


def test_weighted_mean_leaves_out_what_is_missing() -> None:
    assert measures.mean_of_found([1.0, np.nan, 4.0], weights=[1.0, 5.0, 2.0]) == 3.0
    assert np.isnan(measures.mean_of_found([np.nan]))


def test_wrist_distance_is_over_the_hand_size(driving: np.ndarray) -> None:
    np.testing.assert_allclose(measures.wrist_distance(driving + np.array([10.0, 0.0]), driving), 0.25)


def test_palms_of_one_side_agree(driving: np.ndarray) -> None:
    np.testing.assert_allclose(measures.palm_agreement(driving, driving), 1.0)


def test_a_mirrored_hand_shows_the_wrong_side_of_its_palm(driving: np.ndarray) -> None:
    centre = driving.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(measures.palm_agreement(2 * (centre * (1, 0)) + driving * (-1, 1), driving), 0.0)


def bent(angles: tuple[float, float]) -> np.ndarray:
    """An index finger whose two outer joints turn by these degrees in the picture; the other fingers are straight."""
    points = open_hand(40.0, (50.0, 50.0))
    points[5:7, 0], points[6, 1] = points[5, 0], points[5, 1] - 8
    points[7] = points[6] + 8 * np.array([np.cos(np.radians(-90 + angles[0])), np.sin(np.radians(-90 + angles[0]))])
    total = np.radians(-90 + sum(angles))
    points[8] = points[7] + 8 * np.array([np.cos(total), np.sin(total)])
    return points[None]


@pytest.mark.parametrize(("angles", "share"), [((50, 40), 1.0), ((50, -40), 0.75), ((50, -10), 1.0)])
def test_a_finger_that_bends_both_ways_is_not_plausible(angles: tuple[float, float], share: float) -> None:
    np.testing.assert_allclose(measures.plausibility(bent(angles)), share)
