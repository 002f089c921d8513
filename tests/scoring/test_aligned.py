from __future__ import annotations

import numpy as np
import pytest

from ipa_core.scoring.aligned import Similarity, columns, sway, where_to_look
from ipa_core.scoring.measures import hand_size
from tests.scoring.hands import moving_hands

DRIVING = moving_hands(40.0, frames=9)["left"]
SIZE = hand_size(DRIVING)


def moved(scale: float = 1.0, turn: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    centre = DRIVING.mean(axis=1, keepdims=True)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return scale * (DRIVING - centre) @ rotation + centre + shift


def test_a_moved_larger_and_turned_hand_has_the_driving_hand_s_shape() -> None:
    found = columns(moved(1.2, 0.3, (6, 8)), DRIVING, 0.2)
    assert found["error"] == pytest.approx(0, abs=1e-9)
    assert found["jitter"][1:-1] == pytest.approx(0, abs=1e-9)
    assert found["place"] == pytest.approx(10 / SIZE)
    assert found["scale"] == pytest.approx(np.log(1.2))
    assert found["rotation"] == pytest.approx(0.3)


def test_a_mirrored_hand_has_another_shape() -> None:
    centre = DRIVING[..., :1].mean(axis=1, keepdims=True)
    mirrored = np.concatenate([2 * centre - DRIVING[..., :1], DRIVING[..., 1:]], axis=2)
    bent = mirrored + np.linspace(0, 10, 21)[None, :, None]
    assert columns(bent, DRIVING, 0.2)["error"].min() > 0.1


def test_what_stays_beside_the_driving_hand_does_not_sway_and_what_jumps_does() -> None:
    jumping = DRIVING + np.array([0.0, 8.0])[None, None] * (np.arange(9) % 2)[:, None, None]
    still, shaken = (sway(Similarity.between(DRIVING, one), SIZE)[1:-1] for one in (moved(shift=(6, 8)), jumping))
    assert still == pytest.approx(0, abs=1e-9)
    assert shaken == pytest.approx(16 / SIZE[1:-1])


def test_a_nearer_camera_lengthens_a_hand_s_way_and_the_hand_does_not_sway() -> None:
    driving = DRIVING + 40 * np.sin(np.arange(len(DRIVING)))[:, None, None]
    nearer = Similarity.between(driving, 1.05 * driving)
    assert np.nanmax(sway(nearer, SIZE)) > 0.01
    assert sway(nearer, SIZE, 0.05)[1:-1] == pytest.approx(0, abs=1e-9)


def test_a_hand_that_a_detector_turns_and_scales_in_place_does_not_sway() -> None:
    turning = np.where((np.arange(9) % 2)[:, None, None], moved(1.2, 0.3), DRIVING)
    assert sway(Similarity.between(DRIVING, turning), SIZE)[1:-1] == pytest.approx(0, abs=1e-9)


def test_fingers_are_looked_for_where_the_hand_was_found() -> None:
    places, scale = where_to_look(DRIVING, Similarity.between(DRIVING, moved(1.2, 0.1, (6, 8))), SIZE)
    assert places == pytest.approx(moved(1.2, 0.1, (6, 8)))
    assert scale == pytest.approx(1.2)


@pytest.mark.parametrize("found", [moved(shift=(50, 0)), moved(0.4), np.full_like(DRIVING, np.nan)])
def test_fingers_of_a_hand_that_is_elsewhere_or_missing_are_looked_for_in_place(found: np.ndarray) -> None:
    places, scale = where_to_look(DRIVING, Similarity.between(DRIVING, found), SIZE)
    assert places == pytest.approx(DRIVING)
    assert scale == pytest.approx(1)
