"""Divides a video into shots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Final

import cv2
import numpy as np

from ipa_core.video import TimedFrame

_SMALL: Final = (66, 36)
_GRID: Final = 3
"""Parts per side, each compared alone: shots of one room have the same colours at other positions."""
_BLUR: Final = 6.0
"""Levels by which histograms are blurred. Otherwise a plain wall that turns one level brighter is another colour."""


def shots(pictures: Iterable[TimedFrame], cut_threshold: float, longest_gap: float) -> Iterator[Iterator[TimedFrame]]:
    """Divide pictures into shots. Use up each shot before you take the next. A shot ends where consecutive pictures
    have a :func:`colour_distance` above ``cut_threshold`` or other sizes, where damage lies between them, and where
    more than ``longest_gap`` seconds have no picture. Slow fades are not seen."""
    for _, shot in groupby(_numbered(pictures, cut_threshold, longest_gap), key=itemgetter(0)):
        yield map(itemgetter(1), shot)


def _numbered(
    pictures: Iterable[TimedFrame], cut_threshold: float, longest_gap: float
) -> Iterator[tuple[int, TimedFrame]]:
    number, seconds, colours, size = 0, 0.0, None, None
    for frame in pictures:
        found, now = colour_histograms(frame.picture), frame.picture.shape
        if colours is not None:
            is_cut = colour_distance(colours, found) > cut_threshold or now != size or frame.broken is not None
            number += is_cut or frame.seconds - seconds > longest_gap
        seconds, colours, size = frame.seconds, found, now
        yield number, frame


def colour_histograms(picture: np.ndarray) -> np.ndarray:
    """Return the histograms ``[9, 3, 256]`` of L, a and b (CIE Lab) in each of 3 x 3 parts of ``picture [H, W, 3]``.
    Each row of 256 sums to 1."""
    sampled = cv2.resize(picture, (4 * _SMALL[0], 4 * _SMALL[1]), interpolation=cv2.INTER_NEAREST)  # cheap in 4K too
    small = cv2.cvtColor(cv2.resize(sampled, _SMALL, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    parts = [part for row in np.split(small, _GRID, axis=0) for part in np.split(row, _GRID, axis=1)]
    counts = [np.bincount(part[..., channel].ravel(), minlength=256) for part in parts for channel in range(3)]
    blurred = cv2.GaussianBlur(np.array(counts, np.float64), (0, 0), sigmaX=_BLUR, sigmaY=1e-6)
    return (blurred / blurred.sum(axis=1, keepdims=True)).reshape(len(parts), 3, 256)


def colour_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Hellinger distance in [0, 1] of two :func:`colour_histograms`. L, a and b count as independent; the
    similarity (Bhattacharyya coefficient) is the mean over the parts. Measured: 0.01 to 0.1 from picture to picture of
    one shot, 0.2 for a quick pan, 0.25 to 0.5 between cameras in one room, 0.5 and more between scenes."""
    similarity = np.sqrt(first * second).sum(axis=2).prod(axis=1).mean()
    return float(np.sqrt(max(0.0, 1.0 - similarity)))
