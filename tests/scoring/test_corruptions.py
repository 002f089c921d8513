from __future__ import annotations

import numpy as np
import pytest

from ipa_core.scoring.corruptions import COLLAPSE, CORRUPTIONS, corrupt, nuisance
from tests.scoring.hands import moving_hands, video_of

HANDS = moving_hands(frames=9)
POINTS = HANDS["left"]
VIDEO = np.random.default_rng(0).integers(0, 60, (9, 120, 160, 3), np.uint8) + video_of(HANDS) // 2


def changed(spoilt: np.ndarray) -> np.ndarray:
    """Share of visibly changed pixels per frame, ``[T]``."""
    return (np.abs(spoilt.astype(int) - VIDEO).max(axis=3) > 8).mean(axis=(1, 2))


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("severity", [1, 3])
def test_a_fault_is_visible_and_leaves_the_rest_of_the_picture_alone(kind: str, severity: int) -> None:
    spoilt = corrupt(kind, VIDEO, POINTS, severity, seed=1)
    assert changed(spoilt).max() > 0.002
    assert (spoilt[:, :, :40] == VIDEO[:, :, :40]).all()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_fault_is_a_function_of_its_arguments(kind: str) -> None:
    one, other = (corrupt(kind, VIDEO, POINTS, 2, seed=5) for _ in range(2))
    assert (one == other).all()


def test_a_transient_fault_lasts_five_frames() -> None:
    assert (changed(corrupt("transient_blur", VIDEO, POINTS, 3, seed=2)) > 0).sum() == COLLAPSE


def test_frames_without_the_hand_stay_as_they_are() -> None:
    points = POINTS.copy()
    points[3] = np.nan
    assert (corrupt("blur", VIDEO, points, 3, seed=0)[3] == VIDEO[3]).all()


def test_a_hand_that_is_in_no_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="in no frame"):
        corrupt("blur", VIDEO, np.full_like(POINTS, np.nan), 1, seed=0)


def test_nuisance_changes_every_frame_a_little() -> None:
    difference = np.abs(nuisance(VIDEO, 3).astype(int) - VIDEO).mean(axis=(1, 2, 3))
    assert (difference > 0.5).all()
    assert (difference < 25).all()
