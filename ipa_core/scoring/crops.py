"""Upright crops of hands, SIZE pixels wide, in which two hands can be compared."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from ipa_core.keypoints import FINGERS
from ipa_core.scoring.measures import Floats

SIZE: Final = 128
"""Side of the crop in pixels. Smaller hands are enlarged."""
SCALE: Final = 1.6
"""Side of the crop in hand sizes."""


def placed(points: Floats, size: float) -> Floats:
    """Return the map ``[2, 3]`` from pixels of the picture to those of a hand's crop. ``points``: ``[21, 2]`` pixels;
    ``size``: of the hand in pixels. The middle finger's knuckle is above the wrist, and the hand in the middle."""
    turn = _upright(points, size)
    seen = points @ turn.T
    return np.column_stack([turn, SIZE / 2 - (seen.min(axis=0) + seen.max(axis=0)) / 2])


def placed_by_box(points: Floats, size: float) -> Floats:
    """Return what :func:`placed` returns, but with the middle of the box around the hand as it is in the picture. Of
    two hands that differ by a turn, these crops differ too. Version 2 of the score is of these."""
    turn = _upright(points, size)
    return np.column_stack([turn, SIZE / 2 - turn @ ((points.min(axis=0) + points.max(axis=0)) / 2)])


def cut(picture: np.ndarray, matrix: Floats) -> np.ndarray:
    """Return the crop uint8 ``[SIZE, SIZE, 3]`` of a picture. A large hand is made smaller by areas first, because
    sampling alone would make its edges rough."""
    turn, move = matrix[:, :2], matrix[:, 2]
    side = SIZE / float(np.hypot(*turn[:, 0]))
    if side > 1.25 * SIZE:
        height, width = picture.shape[:2]
        centre = np.linalg.solve(turn, SIZE / 2 - move)
        left, top = np.clip(np.floor(centre - 0.75 * side), 0, (width - 2, height - 2)).astype(int)
        right, bottom = np.clip(np.ceil(centre + 0.75 * side), (left + 2, top + 2), (width, height)).astype(int)
        across, down = max(1, round((right - left) * SIZE / side)), max(1, round((bottom - top) * SIZE / side))
        picture = cv2.resize(picture[top:bottom, left:right], (across, down), interpolation=cv2.INTER_AREA)
        move = move + turn @ (left, top)
        turn = turn * ((right - left) / across, (bottom - top) / down)
    # cv2 counts from the centre of the first pixel, the keypoints from its corner.
    centred = np.column_stack([turn, move + turn @ (0.5, 0.5) - 0.5])
    return cv2.warpAffine(picture, centred, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def skeleton(points: Floats) -> np.ndarray:
    """Draw each finger's bones and tip into its own channel, as uint8 ``[SIZE, SIZE, 5]``."""
    # Coordinates far outside would overflow in cv2; they draw nothing either way.
    places = np.round((np.clip(points, -SIZE, 2 * SIZE) - 0.5) * 16).astype(np.int32)
    drawn = []
    for finger in FINGERS:
        channel = np.zeros((SIZE, SIZE), np.uint8)
        cv2.polylines(channel, [places[[0, *finger]]], False, 130, 4, cv2.LINE_AA, shift=4)
        cv2.circle(channel, places[finger[-1]].tolist(), 6 * 16, 255, -1, cv2.LINE_AA, shift=4)
        drawn.append(channel)
    return np.stack(drawn, axis=2)


def moved(points: Floats, matrix: Floats) -> Floats:
    """Map points ``[N, 2]`` by a matrix ``[2, 3]``."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def _upright(points: Floats, size: float) -> Floats:
    x, y = points[9] - points[0]
    return np.array([[-y, x], [-x, -y]]) / max(float(np.hypot(x, y)), 1e-6) * SIZE / (SCALE * size)
