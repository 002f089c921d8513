"""How alike two driving motions are, wherever in the picture and however large the person is.

Procrustes distance without rotation (Gower, "Generalized Procrustes Analysis", 1975) over the points that both
sequences know: each is moved to its centre and scaled to size 1, over the whole sequence at once, so that walking
across the picture stays a motion. A body size is the root mean square distance of the points from their centre.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ipa_core import keypoints as kp
from ipa_core.records import PoseSequence

MOST_FRAMES: Final = 16
"""Frames of a sequence that are compared, evenly over it."""
KNOWN: Final = 0.3
"""Confidence from which a point counts as known."""
LEAST_SHARED: Final = 0.5
"""Sequences are compared when both know at least this share of the points that either knows."""
_POINTS: Final = np.r_[kp.BODY, kp.LEFT_HAND, kp.RIGHT_HAND]
"""Body and hands: 59 points, 42 of them on the hands."""
_NO_SIZE: Final = 1e-9
"""Points that all lie in one place have no size to be scaled by."""


class Motions:
    """Driving motions that are taken already, each under a name; all of one number of frames."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._taken = np.zeros((0, 4, 1))  # see _row; the first half of it or more is in use

    def add(self, name: str, pose: PoseSequence) -> None:
        row = _row(pose)
        if len(self._names) == len(self._taken):  # Room for twice as many: adding stays cheap.
            grown = np.zeros((max(16, 2 * len(self._taken)), *row.shape))
            grown[: len(self._names)] = self._taken
            self._taken = grown
        self._taken[len(self._names)] = row
        self._names.append(name)

    def nearest(self, pose: PoseSequence) -> tuple[float, str] | None:
        """Distance to the nearest motion, 0 (the same) to 2, in body sizes, and its name; ``None`` where no motion can
        be compared."""
        if not self._names:
            return None
        distances = _distances(_row(pose), self._taken[: len(self._names)])
        best = int(np.argmin(distances))
        return (float(distances[best]), self._names[best]) if np.isfinite(distances[best]) else None


def pose_distance(one: PoseSequence, other: PoseSequence) -> float:
    """Distance of two motions of as many frames in body sizes, 0 to 2; infinite where they share too few points."""
    return float(_distances(_row(one), _row(other)[None])[0])


def _row(pose: PoseSequence) -> np.ndarray:
    """Of each compared point 1, x, y and x^2 + y^2, zeros where it is not known: float64 ``[4, frames * 59]``. Measured
    from the picture's middle, in picture heights, so that the sums below lose no digits."""
    frames = np.unique(np.linspace(0, len(pose) - 1, MOST_FRAMES).round().astype(int))
    points = pose.keypoints[frames][:, _POINTS].reshape(-1, 2).astype(np.float64)
    known = (pose.confidence[frames][:, _POINTS] >= KNOWN).reshape(-1)
    x, y = ((points - [pose.width / 2, pose.height / 2]) / pose.height).T
    return np.stack([np.ones(len(points)), x, y, x**2 + y**2]) * known


def _distances(row: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Of one motion ``[4, P]`` from each of ``[N, 4, P]``, over the points that both know: ``[N]``."""
    # Sums over the shared points of every product of two rows: [N, 4 of the other's, 4 of this one's].
    sums = (taken.reshape(-1, row.shape[1]) @ row.T).reshape(-1, 4, 4)
    shared, sum_x, sum_y, square = sums[:, 0].T
    _, other_x, other_y, other_square = sums[:, :, 0].T
    product = sums[:, 1, 1] + sums[:, 2, 2]
    count = np.maximum(shared, 1)
    spread = square - (sum_x**2 + sum_y**2) / count
    other_spread = other_square - (other_x**2 + other_y**2) / count
    together = product - (sum_x * other_x + sum_y * other_y) / count
    either = row[0].sum() + taken[:, 0].sum(1) - shared
    comparable = (shared >= LEAST_SHARED * either) & (spread > _NO_SIZE) & (other_spread > _NO_SIZE)
    likeness = together / np.sqrt(np.where(comparable, spread * other_spread, 1.0))
    return np.where(comparable, np.sqrt(np.maximum(0.0, 2 - 2 * likeness)), np.inf)
