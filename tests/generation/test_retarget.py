"""A driving skeleton with the reference person's proportions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ipa_core import keypoints as kp
from ipa_core.generation.retarget import BONES, HIPS, retarget
from ipa_core.records import PoseSequence

SIDE = 400
STANDING = {
    kp.NOSE: (200, 60), kp.LEFT_EYE: (206, 54), kp.RIGHT_EYE: (194, 54), kp.LEFT_EAR: (214, 58),
    kp.RIGHT_EAR: (186, 58),
    kp.LEFT_SHOULDER: (230, 100), kp.RIGHT_SHOULDER: (170, 100), kp.LEFT_ELBOW: (240, 150), kp.RIGHT_ELBOW: (160, 150),
    kp.LEFT_WRIST: (245, 195), kp.RIGHT_WRIST: (155, 195), kp.LEFT_HIP: (220, 200), kp.RIGHT_HIP: (180, 200),
    kp.LEFT_KNEE: (222, 270), kp.RIGHT_KNEE: (178, 270), kp.LEFT_ANKLE: (224, 340), kp.RIGHT_ANKLE: (176, 340),
}  # fmt: skip


def person(frames: int = 1) -> PoseSequence:
    """Someone who stands, and walks two pixels to the right each frame."""
    points = np.zeros((frames, 133, 2), np.float32)
    for joint, place in STANDING.items():
        points[:, joint] = place
    for hand, wrist in ((kp.LEFT_HAND, kp.LEFT_WRIST), (kp.RIGHT_HAND, kp.RIGHT_WRIST)):
        points[:, hand] = np.array(STANDING[wrist]) + np.arange(21)[:, None] / [2, 1]
    points[:, kp.FACE] = np.array(STANDING[kp.NOSE]) + np.arange(68)[:, None] % 8 - 4
    points[:, 17:23] = np.array(STANDING[kp.LEFT_ANKLE]) + 3
    points[:, :, 0] += 2 * np.arange(frames, dtype=np.float32)[:, None]
    return PoseSequence(points, np.ones((frames, 133), np.float32), SIDE, SIDE, "model", "test")


def with_points(pose: PoseSequence, points: np.ndarray) -> PoseSequence:
    return replace(pose, keypoints=points.astype(np.float32))


def length(pose: PoseSequence, start: int, end: int) -> float:
    return float(np.hypot(*(pose.keypoints[0, end] - pose.keypoints[0, start])))


def test_the_same_person_at_the_same_place_moves_as_before() -> None:
    driving = person(3)
    np.testing.assert_allclose(retarget(driving, person()).keypoints, driving.keypoints, atol=1e-3)


def test_a_smaller_person_elsewhere_is_a_similar_picture() -> None:
    driving, place = person(3), np.array([30, 50])
    found = retarget(driving, with_points(person(), person().keypoints / 2 + place))
    expected = driving.keypoints / 2 + place
    np.testing.assert_allclose(found.keypoints, expected, atol=1e-3)


def test_longer_forearms_move_wrists_and_hands_alone() -> None:
    points = person().keypoints.copy()
    for elbow, wrist in ((kp.LEFT_ELBOW, kp.LEFT_WRIST), (kp.RIGHT_ELBOW, kp.RIGHT_WRIST)):
        points[0, wrist] = points[0, elbow] + 1.2 * (points[0, wrist] - points[0, elbow])
    driving = person(2)
    found = retarget(driving, with_points(person(), points))

    assert length(found, kp.LEFT_ELBOW, kp.LEFT_WRIST) == pytest.approx(
        1.2 * length(driving, kp.LEFT_ELBOW, kp.LEFT_WRIST)
    )
    moved = np.abs(found.keypoints - driving.keypoints).max((0, 2)) > 1e-3
    arms = {kp.LEFT_WRIST, kp.RIGHT_WRIST, *range(kp.LEFT_HAND.start, kp.RIGHT_HAND.stop)}
    assert set(np.flatnonzero(moved)) == arms
    hand = found.keypoints[0, kp.LEFT_HAND] - found.keypoints[0, kp.LEFT_WRIST]
    np.testing.assert_allclose(
        hand, driving.keypoints[0, kp.LEFT_HAND] - driving.keypoints[0, kp.LEFT_WRIST], atol=1e-3
    )


def test_left_and_right_bones_stay_equally_long() -> None:
    points = person().keypoints.copy()
    points[0, kp.LEFT_WRIST] = points[0, kp.LEFT_ELBOW] + 0.5 * (points[0, kp.LEFT_WRIST] - points[0, kp.LEFT_ELBOW])
    found = retarget(person(), with_points(person(), points))
    assert length(found, kp.LEFT_ELBOW, kp.LEFT_WRIST) == pytest.approx(length(found, kp.RIGHT_ELBOW, kp.RIGHT_WRIST))


def test_an_upper_body_is_enough() -> None:
    seen = person().confidence.copy()
    seen[:, [kp.LEFT_HIP, kp.RIGHT_HIP, kp.LEFT_KNEE, kp.RIGHT_KNEE, kp.LEFT_ANKLE, kp.RIGHT_ANKLE]] = 0
    reference = replace(with_points(person(), person().keypoints * 1.25), confidence=seen)
    found = retarget(person(2), reference)
    np.testing.assert_allclose(found.keypoints[0, :11], person().keypoints[0, :11] * 1.25, atol=1e-3)


def test_points_that_were_not_found_stay_so() -> None:
    driving = person()
    seen = driving.confidence.copy()
    seen[:, kp.LEFT_HAND] = 0
    points = driving.keypoints.copy()
    points[:, kp.LEFT_HAND] = 0
    found = retarget(PoseSequence(points, seen, SIDE, SIDE, "model", "test"), with_points(person(), points * 2))
    assert not found.keypoints[:, kp.LEFT_HAND].any()


def test_a_reference_without_a_person_is_refused() -> None:
    nobody = replace(person(), confidence=np.zeros((1, 133), np.float32))
    with pytest.raises(ValueError, match="shows no bone"):
        retarget(person(), nobody)


def test_each_bone_has_its_mirror() -> None:
    from ipa_core.generation.retarget import _mirrored

    mirror = {1: 2, 3: 4, 5: 6, 7: 8, 9: 10, 11: 12, 13: 14, 15: 16}
    for number, (parent, child) in enumerate(BONES):
        same = {BONES[one] for one in _mirrored(number)}
        wanted = {(parent, child)}
        if child != kp.NOSE and (parent, child) != BONES[0]:
            other = {**mirror, **{value: key for key, value in mirror.items()}}
            wanted.add((other.get(parent, parent), other[child]))
        assert same == wanted
    assert BONES[0][0] == HIPS
