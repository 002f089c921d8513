from __future__ import annotations

import cv2
import numpy as np
import pytest

from ipa_core.scoring.acuity import acuity
from tests.scoring.hands import HEIGHT, WIDTH, moving_hands

HANDS = moving_hands(40.0)
PLACES = list(HANDS.values())


def scene() -> np.ndarray:
    """Hands before a checked wall."""
    rows, columns = np.indices((HEIGHT, WIDTH)) // 12
    video = np.repeat(np.where((rows + columns) % 2, 60, 110).astype(np.uint8)[None, ..., None], 5, axis=0)
    video = np.repeat(video, 3, axis=3)
    for points in PLACES:
        for picture, hand in zip(video, points, strict=True):
            for point in hand:
                cv2.circle(picture, tuple(round(float(value)) for value in point), 3, (230, 190, 160), -1)
    return video


def blurred(video: np.ndarray, sigma: float) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(picture, (0, 0), sigma) for picture in video])


def test_an_untouched_video_is_sharp() -> None:
    assert acuity(scene(), scene(), PLACES, PLACES).min() == 1.0


def test_a_whole_picture_that_is_soft_costs_little_and_a_soft_hand_much() -> None:
    soft = blurred(scene(), 1.5)
    only = scene()
    only[:, 30:90, 20:140] = soft[:, 30:90, 20:140]
    whole, hands = (float(acuity(video, scene(), PLACES, PLACES).mean()) for video in (soft, only))
    assert whole > 0.95
    assert hands < 0.8


@pytest.mark.parametrize("change", [lambda video: 255 * (video / 255) ** 1.3, lambda video: 0.8 * video + 20])
def test_brightness_and_gamma_hardly_matter(change: object) -> None:
    changed = change(scene()).round().astype(np.uint8)  # type: ignore[operator]
    assert acuity(changed, scene(), PLACES, PLACES).mean() > 0.97


def test_a_hand_without_edges_is_not_sharp_and_a_driving_hand_without_edges_tells_nothing() -> None:
    flat = np.full_like(scene(), 90)
    assert (acuity(flat, scene(), PLACES, PLACES) == 0).all()
    assert np.isnan(acuity(scene(), flat, PLACES, PLACES)).all()
