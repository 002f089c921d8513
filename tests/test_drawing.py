import numpy as np
import pytest

from ipa_core import keypoints as kp
from ipa_core.config import DrawingConfig
from ipa_core.drawing import draw_overlay, draw_pose, draw_sequence
from ipa_core.records import PoseSequence


def person(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A standing figure with both hands open, face a ring of dots; points as shares of the picture."""
    points = np.zeros((133, 2), np.float32)
    points[kp.BODY] = [
        (0.50, 0.12), (0.52, 0.10), (0.48, 0.10), (0.55, 0.11), (0.45, 0.11), (0.60, 0.25), (0.40, 0.25), (0.70, 0.38),
        (0.30, 0.38), (0.78, 0.50), (0.22, 0.50), (0.56, 0.55), (0.44, 0.55), (0.57, 0.72), (0.43, 0.72), (0.58, 0.90),
        (0.42, 0.90),
    ]  # fmt: skip
    points[kp.FEET] = [(0.62, 0.95), (0.64, 0.94), (0.57, 0.94), (0.38, 0.95), (0.36, 0.94), (0.43, 0.94)]
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points[kp.FACE] = np.stack([0.5 + 0.05 * np.cos(turn), 0.12 + 0.06 * np.sin(turn)], 1)
    for side, wrist in kp.WRISTS.items():
        hand = np.zeros((21, 2))
        for number, finger in enumerate(kp.FINGERS):
            for joint, index in enumerate(finger):
                hand[index] = (number - 2) * 0.03, 0.05 + 0.03 * joint
        points[kp.HANDS[side]] = points[wrist] + hand
    return points * (width, height), np.ones(133, np.float32)


def drawn(width: int = 96, height: int = 96, hide: slice | None = None, **drawing) -> np.ndarray:
    points, confidence = person(width, height)
    if hide is not None:
        confidence[hide] = 0.2
    return draw_pose(points, confidence, height, width, DrawingConfig(**drawing))


@pytest.mark.parametrize(("width", "height"), [(96, 96), (832, 480), (480, 832)])
def test_draws_the_picture_size_legibly(width, height):
    picture = drawn(width, height)
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8
    assert 0.01 < (picture.max(axis=2) > 100).mean() < 0.3


def test_repeats_its_bytes():
    assert np.array_equal(drawn(), drawn())


@pytest.mark.parametrize("size", [96, 480])
def test_joint_has_its_colour_at_its_place(size):
    picture = drawn(size, size, face=False)
    x, y = person(size, size)[0][kp.RIGHT_KNEE]
    assert (
        np.abs(picture[int(y), int(x)].astype(int) - (255, 255, 0)).max() < 40
    )  # 10th of the palette, red and blue swapped


def test_drawing_moves_with_the_points_by_less_than_a_pixel():
    points, confidence = person(96, 96)
    weight = [
        draw_pose(points + np.array([shift, 0]), confidence, 96, 96, DrawingConfig()).astype(float).sum(axis=(0, 2))
        for shift in (0.0, 0.5)
    ]
    centres = [(row * np.arange(96)).sum() / row.sum() for row in weight]
    assert centres[1] - centres[0] == pytest.approx(0.5, abs=0.05)


def test_hand_detail_takes_fingers_then_hands_away():
    full, palm, none = (drawn(480, 480, hand_detail=detail).astype(int).sum() for detail in ("full", "palm", "none"))
    assert full > palm > none
    assert np.array_equal(drawn(hand_detail="none"), drawn(hide=slice(91, 133)))


def test_palm_does_not_depend_on_finger_points():
    points, confidence = person(96, 96)
    palm = DrawingConfig(hand_detail="palm")
    before = draw_pose(points, confidence, 96, 96, palm)
    for hand in kp.HANDS.values():
        points[hand][[index for finger in kp.FINGERS for index in finger[1:]]] = 3.0
    assert np.array_equal(draw_pose(points, confidence, 96, 96, palm), before)


def test_face_is_a_switch():
    assert np.array_equal(drawn(face=False), drawn(hide=kp.FACE))
    assert not np.array_equal(drawn(face=False), drawn(face=True))


def test_feet_are_left_out():
    assert np.array_equal(drawn(hide=kp.FEET), drawn())


def test_unseen_points_leave_black():
    assert not drawn(hide=slice(0, 133)).any()


def test_points_far_outside_do_no_harm():
    points, confidence = person(96, 96)
    assert draw_pose(points * 1e6, confidence, 96, 96, DrawingConfig()).shape == (96, 96, 3)


def test_sequence_draws_each_frame():
    points, confidence = person(96, 64)
    pose = PoseSequence(np.stack([points, points + 2]), np.stack([confidence, confidence]), 96, 64, "model", "test")
    video = draw_sequence(pose, DrawingConfig())
    assert video.shape == (2, 64, 96, 3)
    assert np.array_equal(video[0], draw_pose(points, confidence, 64, 96, DrawingConfig()))
    assert not np.array_equal(video[0], video[1])


def test_overlay_keeps_the_picture_beside_the_lines():
    points, confidence = person(96, 96)
    picture = np.full((96, 96, 3), 90, np.uint8)
    over = draw_overlay(picture, points, confidence)
    assert (over[0] == 90).all()
    assert (over != picture).any()
    assert (picture == 90).all()
