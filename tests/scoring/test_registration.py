"""The driving hand is laid upon the candidate's by their pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ipa_core.scoring import harmless
from ipa_core.scoring.aligned import Similarity, sway
from ipa_core.scoring.registration import SURE, Registration, registered
from tests.scoring.hands import open_hand

SIZE, SIDE, FRAMES = 60.0, 160, 7
HAND = np.stack([open_hand(SIZE, (SIDE / 2, SIDE / 2))] * FRAMES)


def pictures(points: np.ndarray) -> np.ndarray:
    """Draw the hand at ``points [T, 21, 2]`` before a quiet backdrop, uint8 ``[T, SIDE, SIDE, 3]``."""
    drawn = []
    for hand in points:
        picture = np.full((SIDE, SIDE, 3), 60, np.uint8)
        for finger in range(5):
            line = np.round(16 * hand[[0, *range(4 * finger + 1, 4 * finger + 5)]] - 8).astype(np.int32)
            cv2.polylines(picture, [line], False, (200, 170, 150), 8, cv2.LINE_AA, shift=4)
        drawn.append(picture)
    return np.stack(drawn)


def astray(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the points as a detector may find them: each hand elsewhere by some percent of its size."""
    return points + np.random.default_rng(seed).normal(0, 0.03 * SIZE, (len(points), 1, 2))


def laid(video: np.ndarray, found: np.ndarray, driving_video: np.ndarray | None) -> Registration:
    size = np.full(FRAMES, SIZE)
    return registered(video, driving_video, HAND, Similarity.between(HAND, found), size)


def test_the_pictures_correct_what_the_points_say() -> None:
    turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 8, 1.0)
    there = HAND @ turn[:, :2].T + turn[:, 2] + (4.3, -2.6)
    seen = laid(pictures(there), astray(there), pictures(HAND))
    np.testing.assert_allclose(seen.place.onto(HAND), there, atol=0.01 * SIZE)


def test_points_that_tremble_about_a_quiet_hand_are_no_sway() -> None:
    found = astray(HAND)
    fit = Similarity.between(HAND, found)
    seen = laid(pictures(HAND), found, pictures(HAND))
    assert np.nanmax(sway(fit, np.full(FRAMES, SIZE))) > 0.05
    assert np.nanmax(seen.sway) < 0.01


def test_a_hand_that_jumps_sways_by_its_jump() -> None:
    there = HAND.copy()
    there[3] += (0.15 * SIZE, 0)
    seen = laid(pictures(there), astray(there), pictures(HAND))
    assert seen.sway[3] == pytest.approx(0.3, abs=0.01)
    assert seen.sway[2] == pytest.approx(0.15, abs=0.01)


def waving() -> np.ndarray:
    """Return the hand on a bow, ``[T, 21, 2]``."""
    turn = np.linspace(0, np.pi, FRAMES)
    return HAND + 0.5 * SIZE * np.stack([np.cos(turn), np.sin(turn) - 0.5], axis=1)[:, None]


def test_a_nearer_camera_is_no_sway() -> None:
    driving = waving()
    there = 1.05 * (driving - SIDE / 2) + SIDE / 2
    size = np.full(FRAMES, SIZE)
    seen = registered(pictures(there), pictures(driving), driving, Similarity.between(driving, there), size)
    assert np.nanmax(sway(seen.place, size)) > 0.005
    assert np.nanmax(seen.sway) < 0.003


def test_the_pictures_correct_the_scale_too() -> None:
    seen = laid(pictures(HAND), 1.1 * (HAND - SIDE / 2) + SIDE / 2 + 0.2 * SIZE, pictures(HAND))
    np.testing.assert_allclose(seen.place.onto(HAND), HAND, atol=0.01 * SIZE)


def test_a_codec_moves_no_hand() -> None:
    video = harmless.as_jpeg(pictures(HAND), 40)
    seen = laid(video, astray(HAND), pictures(HAND))
    np.testing.assert_allclose(seen.place.onto(HAND), HAND, atol=0.01 * SIZE)
    assert np.nanmax(seen.sway) < 0.01


def test_a_frame_without_a_found_hand_is_looked_at_where_its_neighbours_have_it() -> None:
    there = HAND + np.array([6.0, 3.0])
    found = there.copy()
    found[2] = np.nan
    seen = laid(pictures(there), found, None)
    np.testing.assert_allclose(seen.place.onto(HAND)[2], there[2], atol=1e-6)


def test_pictures_that_do_not_agree_leave_the_points_to_decide() -> None:
    other = np.random.default_rng(3).integers(0, 256, pictures(HAND).shape, np.uint8)
    there = HAND.copy()
    there[3] += (0.2 * SIZE, 0)
    seen = laid(other, there, pictures(HAND))
    np.testing.assert_allclose(seen.place.onto(HAND), HAND, atol=1e-6)
    assert seen.sway[3] == pytest.approx(0.4 - 0.03 - 1.7 / SIZE)
    assert not seen.agreed.any()


def test_a_hand_that_the_detector_misses_is_found_by_its_picture() -> None:
    there = HAND + np.array([2.5, -1.0])
    seen = laid(pictures(there), np.full_like(HAND, np.nan), pictures(HAND))
    assert (seen.agreed > SURE).all()
    np.testing.assert_allclose(seen.place.onto(HAND), there, atol=0.01 * SIZE)


def test_without_points_and_pictures_there_is_no_place() -> None:
    seen = laid(pictures(HAND), np.full_like(HAND, np.nan), None)
    assert np.isnan(seen.place.turn).all()
    assert np.isnan(seen.sway).all()
