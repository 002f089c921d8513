from __future__ import annotations

import numpy as np
import pytest

from ipa_core.scoring.nuisances import NUISANCES, disturb
from tests.scoring.hands import moving_hands, video_of

HANDS = moving_hands()
VIDEO = video_of(HANDS)


@pytest.mark.parametrize("name", NUISANCES)
def test_a_nuisance_changes_the_video_a_little_and_always_the_same(name: str) -> None:
    changed = disturb(name, VIDEO, list(HANDS.values()), 3)
    assert (changed.shape, changed.dtype) == (VIDEO.shape, VIDEO.dtype)
    assert 0 < np.abs(changed.astype(int) - VIDEO).mean() < 30
    assert (changed == disturb(name, VIDEO, list(HANDS.values()), 3)).all()


def test_a_shift_moves_the_picture_by_its_pixels() -> None:
    changed = disturb("shift_4", VIDEO, [], 3).astype(float)
    moves = [(x, y) for x in range(-5, 6) for y in range(-5, 6)]
    unlike = {move: np.abs(np.roll(VIDEO, move[::-1], (1, 2)) - changed).mean() for move in moves}
    assert np.hypot(*min(unlike, key=lambda move: unlike[move])) == pytest.approx(4, abs=0.6)


def test_a_hand_shift_leaves_the_rest_of_the_picture() -> None:
    changed = disturb("hand_shift", VIDEO, list(HANDS.values()), 3)
    assert (changed[:, :4] == VIDEO[:, :4]).all()
