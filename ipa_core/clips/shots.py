"""Divides a video into shots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Final

import cv2
import numpy as np

from ipa_core.video import TimedFrame

_SMALL: Final = (66, 36)
_SAMPLED: Final = (4 * _SMALL[0], 4 * _SMALL[1])
_GRID: Final = 3
"""Parts per side, each compared alone: shots of one room have the same colours at other positions."""
_BLUR: Final = 6.0
"""Levels by which histograms are blurred. Otherwise a plain wall that turns one level brighter is another colour."""

_DOUBT: Final = 0.1
"""Where the distance of two sketches is that near to the threshold, the pictures decide. The two distances differ by
0.03 at most (measured: demo, test patterns, noise, fractals)."""


def shots(pictures: Iterable[TimedFrame], cut_threshold: float, longest_gap: float) -> Iterator[Iterator[TimedFrame]]:
    """Divide pictures into shots. Use up each shot before you take the next. A shot ends where consecutive pictures
    have a :func:`colour_distance` above ``cut_threshold`` or other sizes, where damage lies between them, and where
    more than ``longest_gap`` seconds have no picture. Slow fades are not seen."""
    for _, shot in groupby(_numbered(pictures, cut_threshold, longest_gap), key=itemgetter(0)):
        yield map(itemgetter(1), shot)


def _numbered(
    pictures: Iterable[TimedFrame], cut_threshold: float, longest_gap: float
) -> Iterator[tuple[int, TimedFrame]]:
    number = 0
    before: _Seen | None = None
    for frame in pictures:
        seen = _Seen(frame)
        if before is not None:
            number += seen.is_apart(before, longest_gap) or seen.is_cut(before, cut_threshold)
        before = seen
        yield number, frame


class _Seen:
    """A picture with its colours."""

    def __init__(self, frame: TimedFrame) -> None:
        self._frame = frame
        self._size = frame.shown.frame.width, frame.shown.frame.height
        self._sketch = colour_histograms(frame.shown.sketch(*_SAMPLED))

    @cached_property
    def _exact(self) -> np.ndarray:
        return colour_histograms(self._frame.picture)

    def is_apart(self, before: _Seen, longest_gap: float) -> bool:
        frame, last = self._frame, before._frame
        return frame.broken is not None or self._size != before._size or frame.seconds - last.seconds > longest_gap

    def is_cut(self, before: _Seen, cut_threshold: float) -> bool:
        distance = colour_distance(before._sketch, self._sketch)
        if abs(distance - cut_threshold) < _DOUBT:
            distance = colour_distance(before._exact, self._exact)
        return distance > cut_threshold


def colour_histograms(picture: np.ndarray) -> np.ndarray:
    """Return the histograms ``[9, 3, 256]`` of L, a and b (CIE Lab) in each of 3 x 3 parts of ``picture [H, W, 3]``.
    Each row of 256 sums to 1."""
    sampled = cv2.resize(picture, _SAMPLED, interpolation=cv2.INTER_NEAREST)  # cheap in 4K too
    small = cv2.cvtColor(cv2.resize(sampled, _SMALL, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    rows, columns = _SMALL[1] // _GRID, _SMALL[0] // _GRID
    parts = small.reshape(_GRID, rows, _GRID, columns, 3).transpose(0, 2, 4, 1, 3).reshape(3 * _GRID**2, -1)
    places = parts + 256 * np.arange(len(parts))[:, None]
    counts = np.bincount(places.ravel(), minlength=256 * len(parts)).reshape(len(parts), 256)
    blurred = cv2.GaussianBlur(counts.astype(np.float64), (0, 0), sigmaX=_BLUR, sigmaY=1e-6)
    return (blurred / blurred.sum(axis=1, keepdims=True)).reshape(_GRID**2, 3, 256)


def colour_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Hellinger distance in [0, 1] of two :func:`colour_histograms`. L, a and b count as independent; the
    similarity (Bhattacharyya coefficient) is the mean over the parts. Measured: 0.01 to 0.1 from picture to picture of
    one shot, 0.2 for a quick pan, 0.25 to 0.5 between cameras in one room, 0.5 and more between scenes."""
    similarity = np.sqrt(first * second).sum(axis=2).prod(axis=1).mean()
    return float(np.sqrt(max(0.0, 1.0 - similarity)))
