"""The distance of two driving motions, independent of the person's position and size in the picture.

It is the Procrustes distance without rotation (Gower, "Generalized Procrustes Analysis", 1975) over the points that
both sequences know. A whole sequence is moved to its centre and scaled to size 1 at once, so walking across the picture
stays a motion. A body size is the root mean square distance of the points from their centre.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ipa_core import keypoints as kp
from ipa_core.records import PoseSequence

MOST_FRAMES: Final = 16
"""Number of frames of a sequence that are compared, spread evenly."""
KNOWN: Final = 0.3
"""Least confidence of a known point."""
LEAST_SHARED: Final = 0.5
"""Sequences are compared when both know at least this share of the points that either knows."""
_POINTS: Final = np.r_[kp.BODY, kp.LEFT_HAND, kp.RIGHT_HAND]
"""Body and hands: 59 points, 42 of them on the hands."""
_NO_SIZE: Final = 1e-9
"""A sequence with a smaller spread has no size to scale by: all its points coincide."""


class Motions:
    """Driving motions of kept clips, each with a name; all have the same number of frames."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._taken = np.zeros((0, 4, 1))  # rows of _row; the first len(self._names) are in use

    def add(self, name: str, pose: PoseSequence) -> None:
        row = _row(pose)
        if len(self._names) == len(self._taken):  # Double the room, so that adding stays cheap.
            grown = np.zeros((max(16, 2 * len(self._taken)), *row.shape))
            grown[: len(self._names)] = self._taken
            self._taken = grown
        self._taken[len(self._names)] = row
        self._names.append(name)

    def nearest(self, pose: PoseSequence) -> tuple[float, str] | None:
        """Return the nearest motion's distance, 0 (the same) to 2 body sizes, and name; ``None`` if none compares."""
        if not self._names:
            return None
        distances = _distances(_row(pose), self._taken[: len(self._names)])
        best = int(np.argmin(distances))
        return (float(distances[best]), self._names[best]) if np.isfinite(distances[best]) else None


def pose_distance(one: PoseSequence, other: PoseSequence) -> float:
    """Return the distance of two equally long motions in body sizes, 0 to 2; infinite if they share too few points."""
    return float(_distances(_row(one), _row(other)[None])[0])


def _row(pose: PoseSequence) -> np.ndarray:
    """Return 1, x, y and x^2 + y^2 of each compared point, or zeros for an unknown point: float64 ``[4, frames * 59]``.
    x and y are picture heights from the picture's middle, so that the sums in :func:`_distances` lose no digits."""
    frames = np.unique(np.linspace(0, len(pose) - 1, MOST_FRAMES).round().astype(int))
    points = pose.keypoints[frames][:, _POINTS].reshape(-1, 2).astype(np.float64)
    known = (pose.confidence[frames][:, _POINTS] >= KNOWN).reshape(-1)
    x, y = ((points - [pose.width / 2, pose.height / 2]) / pose.height).T
    return np.stack([np.ones(len(points)), x, y, x**2 + y**2]) * known


def _distances(row: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return the distances ``[N]`` of a motion ``[4, P]`` from each of ``[N, 4, P]`` over the points that both know."""
    # [N, 4, 4]: the products of each row of the other motion with each row of this one, summed over the shared points.
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
