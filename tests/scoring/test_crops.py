from __future__ import annotations

import cv2
import numpy as np

from ipa_core.scoring.crops import SIZE, cut, moved, placed, placed_by_box
from tests.scoring.hands import open_hand

HAND = open_hand(60.0, (80.0, 80.0))
TURN = cv2.getRotationMatrix2D((70, 90), 25, 1.1)
TURNED = moved(HAND, TURN)


def test_a_turned_and_larger_hand_has_the_same_crop() -> None:
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8), (0, 0), 4)
    turned = cv2.warpAffine(picture, TURN, (200, 200), flags=cv2.INTER_CUBIC)
    # cv2 counts from the centre of the first pixel, the keypoints from its corner.
    shift = 0.5 - TURN[:, :2] @ (0.5, 0.5)
    seen = cut(turned, placed(TURNED + shift, 66.0))
    assert np.abs(seen.astype(int) - cut(picture, placed(HAND, 60.0))).mean() < 1


def test_the_hand_is_upright_in_the_middle_of_its_crop() -> None:
    seen = moved(TURNED, placed(TURNED, 66.0))
    np.testing.assert_allclose((seen.min(axis=0) + seen.max(axis=0)) / 2, SIZE / 2)
    np.testing.assert_allclose(seen[9, 0], seen[0, 0])
    assert seen[9, 1] < seen[0, 1]


def test_the_crops_of_version_2_depend_on_the_turn() -> None:
    ours, theirs = (moved(hand, placed_by_box(hand, size)) for hand, size in ((TURNED, 66.0), (HAND, 60.0)))
    assert np.abs(ours - theirs).max() > 1
