from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ipa_core.scoring.finger_training import shows, train
from ipa_core.scoring.fingers import SIZE, FingerInspector, crop, skeleton
from tests.scoring.hands import HEIGHT, WIDTH, open_hand


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points - (WIDTH / 2, HEIGHT / 2)) @ turn.T + (WIDTH / 2, HEIGHT / 2)


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


def test_a_fault_that_changes_nothing_is_not_shown_to_the_network() -> None:
    whole = np.full((SIZE, SIZE, 5), 100, np.uint8)
    spoilt = whole.copy()
    spoilt[:2, :2] = 200
    assert not shows(whole, spoilt)
    spoilt[:20, :20] = 200
    assert shows(whole, spoilt)


@pytest.mark.slow
def test_training_learns_a_fault_that_is_plain_to_see(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 60, (240, SIZE, SIZE, 5), np.uint8)
    whole = np.arange(240) % 2 == 0
    crops[whole, 20:60, 20:60, :3] += 150
    train(crops, whole, tmp_path / "weights.safetensors", steps=60)
    answer = FingerInspector(tmp_path / "weights.safetensors")(list(crops))
    assert ((answer > 0) == whole).mean() > 0.95
