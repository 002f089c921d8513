from __future__ import annotations

import numpy as np
import pytest

from ipa_core.scoring.fingers import AS_WHOLE, SIZE, FingerInspector, crop, skeleton
from tests.scoring.hands import HEIGHT, WIDTH, open_hand

FIRST_ANSWERS = [0.10870027542114258, -0.8569799661636353]


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray((points - (WIDTH / 2, HEIGHT / 2)) @ turn.T + (WIDTH / 2, HEIGHT / 2))


def test_a_crop_looks_the_same_however_the_hand_is_turned() -> None:
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    hand = open_hand(40.0, (WIDTH / 2, HEIGHT / 2))
    upright, lying = (crop(picture, points, 40.0) for points in (hand, turned(hand, 70)))
    # Line drawing rounds to a sixteenth of a pixel; the box of a turned hand has another centre.
    middle = [
        np.argwhere(one[..., 3] > 0).mean(axis=0) - np.argwhere(one[..., 4] > 0).mean(axis=0)
        for one in (upright, lying)
    ]
    np.testing.assert_allclose(middle[0], middle[1], atol=0.6)


def test_the_hand_points_up_in_its_crop() -> None:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    seen = crop(picture, turned(open_hand(40.0, (WIDTH / 2, HEIGHT / 2)), 120), 40.0)
    tips, bones = (np.argwhere(seen[..., channel] > 0)[:, 0].mean() for channel in (4, 3))
    assert tips < bones


def test_a_skeleton_outside_of_the_crop_draws_nothing() -> None:
    assert not skeleton(np.full((21, 2), 10.0 * SIZE)).any()


def test_the_packaged_network_answers_each_crop() -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 5), np.uint8)
    answer = FingerInspector()(list(crops))
    assert answer.shape == (3,)
    assert np.isfinite(answer).all()


def test_no_crops_give_no_answers() -> None:
    assert FingerInspector()([]).shape == (0,)


def test_the_first_network_gives_the_numbers_it_always_gave() -> None:
    crops = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 5), np.uint8)
    np.testing.assert_allclose(FingerInspector()(list(crops)), FIRST_ANSWERS, atol=1e-4)


def test_the_first_network_compares_by_the_difference_of_two_answers() -> None:
    ours, theirs = np.random.default_rng(2).integers(0, 256, (2, 1, SIZE, SIZE, 5), np.uint8)
    inspector = FingerInspector()
    expected = inspector(list(ours)) - inspector(list(theirs)) + AS_WHOLE
    assert inspector.compare(list(ours), list(theirs)) == pytest.approx(expected)
