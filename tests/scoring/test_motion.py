"""The distance of two driving motions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_core import keypoints as kp
from ipa_core.records import PoseSequence
from ipa_core.scoring import pose_distance
from ipa_core.scoring.motion import Motions

FRAMES = 9


def motion(number: int) -> PoseSequence:
    points = np.random.default_rng(number).normal(100, 20, (FRAMES, kp.COUNT, 2)).astype(np.float32)
    return PoseSequence(points, np.ones((FRAMES, kp.COUNT), np.float32), 200, 200, "model", "test")


def moved(pose: PoseSequence, scale: float, right: float, down: float) -> PoseSequence:
    return replace(pose, keypoints=(pose.keypoints * scale + [right, down]).astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(0.3, 3), right=st.floats(-100, 100), down=st.floats(-100, 100))
def test_place_and_size_of_the_person_do_not_matter(scale: float, right: float, down: float) -> None:
    assert pose_distance(motion(1), moved(motion(1), scale, right, down)) == pytest.approx(0, abs=1e-4)


def test_it_is_the_same_from_both_sides() -> None:
    assert pose_distance(motion(1), motion(2)) == pytest.approx(pose_distance(motion(2), motion(1)))


def test_motions_without_anything_in_common_are_far() -> None:
    assert pose_distance(motion(1), motion(2)) == pytest.approx(2**0.5, abs=0.1)


def test_its_unit_is_the_size_of_the_body() -> None:
    """Each point moved by a tenth of the root mean square distance from the centre."""
    pose = motion(1)
    size = np.sqrt(((pose.keypoints - pose.keypoints.mean((0, 1))) ** 2).sum(-1).mean())
    angle = np.random.default_rng(3).uniform(0, 2 * np.pi, pose.keypoints.shape[:2])
    step = 0.1 * size * np.stack([np.cos(angle), np.sin(angle)], -1)
    assert pose_distance(pose, replace(pose, keypoints=pose.keypoints + step)) == pytest.approx(0.1, rel=0.05)


def test_walking_across_the_picture_is_a_motion_of_its_own() -> None:
    walk = np.linspace(0, 60, FRAMES)[:, None, None] * [1, 0]
    assert pose_distance(motion(1), replace(motion(1), keypoints=motion(1).keypoints + walk)) > 0.3


def test_a_point_that_one_does_not_know_is_not_compared() -> None:
    unknown = motion(1)
    unknown.confidence[:, kp.LEFT_HAND] = 0
    unknown.keypoints[:, kp.LEFT_HAND] = 0
    assert pose_distance(motion(1), unknown) == pytest.approx(0, abs=1e-4)


def test_too_few_shared_points_are_no_comparison() -> None:
    left, right = motion(1), motion(1)
    left.confidence[:, kp.RIGHT_HAND] = right.confidence[:, kp.LEFT_HAND] = 0
    assert pose_distance(left, right) == float("inf")


def test_points_in_one_place_are_no_comparison() -> None:
    still = replace(motion(1), keypoints=np.full((FRAMES, kp.COUNT, 2), 30, np.float32))
    assert pose_distance(motion(1), still) == float("inf")


def test_the_nearest_of_many_is_named() -> None:
    motions = Motions()
    for number in range(40):
        motions.add(str(number), motion(number))
    found = motions.nearest(moved(motion(23), 1.5, 3, 4))
    assert found is not None
    assert found[1] == "23"
