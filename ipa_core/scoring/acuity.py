"""How sharp the hands of a candidate are, compared with the rest of the same picture.

A codec, a soft decoder or another resolution makes the whole picture softer. A bad hand is softer than the rest of its
picture. So the widths of edges are compared four times: hand and rest, candidate and driving video. A width is the
contrast of an edge over its steepest slope, so brightness, gamma and the colour of the skin don't change it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ipa_core.scoring.measures import Floats

_SMOOTH = 0.7
"""Pixels of a blur before the slopes, against grain."""
_WINDOW = 0.15
"""Side of the window that holds an edge, in hand sizes; at least 5 pixels."""
_FLAT = 8.0
"""Grey levels. A region whose strongest edges have less contrast has no sharpness."""


def acuity(video: np.ndarray, driving_video: np.ndarray, places: Sequence[Floats], hands: Sequence[Floats]) -> Floats:
    """Return how sharp each hand is, ``[hands, T]`` in [0, 1]: the width of edges that the softness of the rest
    explains, over their width in the candidate.

    Videos are uint8 RGB ``[T, H, W, 3]``. ``hands`` are the points of the driving hands, ``[T, 21, 2]``; ``places`` is
    where these hands are in the candidate. NaN without points, and where the driving hand has no edges.
    """
    result = np.full((len(hands), len(video)), np.nan)
    for frame in range(len(video)):
        known = [number for number, points in enumerate(hands) if np.isfinite(points[frame]).all()]
        if not known:
            continue
        size = max(float(np.ptp(hands[number][frame], axis=0).max()) for number in known)
        ours = _widths(video[frame], [places[number][frame] for number in known], size)
        theirs = _widths(driving_video[frame], [hands[number][frame] for number in known], size)
        softer = max(0.0, ours[-1] ** 2 - theirs[-1] ** 2) if np.isfinite(ours[-1] + theirs[-1]) else 0.0
        for number, mine, yours in zip(known, ours, theirs, strict=False):
            # Blurs add up in squares. A hand that lost all its edges has no width.
            explained = float(np.sqrt(yours**2 + softer))
            result[number, frame] = explained / max(mine, explained) if mine < np.inf else 0 * yours
    return result


def _widths(picture: np.ndarray, hands: Sequence[Floats], size: float) -> list[float]:
    """Return the mean width of the edges of each hand and of the rest, in pixels; NaN for a region without edges."""
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), _SMOOTH)
    side = max(5, round(_WINDOW * size) | 1)
    window = np.ones((side, side), np.uint8)
    contrast = cv2.dilate(grey, window) - cv2.erode(grey, window)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.125))
    width = contrast / np.maximum(cv2.dilate(slope, window), 1e-3)
    rest = np.ones(grey.shape, bool)
    found = []
    for points in hands:
        near, distance = _distance(points, grey.shape, 0.3 * size)
        found.append(_mean_width(width[near], contrast[near], distance <= 0.08 * size))
        rest[near] &= distance > 0.3 * size
    return [*found, _mean_width(width, contrast, rest)]


def _mean_width(width: np.ndarray, contrast: np.ndarray, region: np.ndarray) -> float:
    strength = contrast[region]
    if not len(strength) or np.quantile(strength, 0.95) < _FLAT:
        return float("nan")
    weight = strength.astype(np.float64) ** 3
    return float((weight * width[region]).sum() / weight.sum())


def _distance(points: Floats, shape: tuple[int, ...], reach: float) -> tuple[tuple[slice, slice], np.ndarray]:
    """Return the part of the picture that holds all within ``reach`` pixels of the hand's outline, and the distance of
    its pixels from the outline; 0 inside."""
    hull = cv2.convexHull(np.round(points).astype(np.int32))
    margin = int(reach) + 2
    low = np.clip(hull.min(axis=(0, 1)) - margin, 0, (shape[1] - 1, shape[0] - 1))
    high = np.clip(hull.max(axis=(0, 1)) + margin + 1, low + 1, (shape[1], shape[0]))
    outside = np.ones((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillConvexPoly(outside, hull - low, 0)
    return (slice(low[1], high[1]), slice(low[0], high[0])), cv2.distanceTransform(outside, cv2.DIST_L2, 3)
