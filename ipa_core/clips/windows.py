"""Cuts shots into windows of equally spaced pictures, back to back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np

from ipa_core.video import BrokenVideo, TimedFrame

_ROUNDING: Final = 1e-6
"""Seconds by which time stamps may be off without moving a picture."""


@dataclass(frozen=True, eq=False)
class Window:
    """The pictures of a clip (uint8 ``[H, W, 3]``). start: seconds from the source's first picture. width, height: of
    the source's pictures, before they shrank."""

    start: float
    pictures: list[np.ndarray]
    width: int
    height: int


@dataclass(frozen=True)
class Leftover:
    """The rest of a shot after its last whole window. seconds: its length. broken: the damage that ended it, or that
    lies before the next shot."""

    start: float
    seconds: float
    broken: BrokenVideo | None = None


def windows(
    shots: Iterable[Iterable[TimedFrame]],
    frames: int,
    fps: float,
    step: float,
    shrink: Callable[[np.ndarray], np.ndarray],
) -> Iterator[Window | Leftover]:
    """Divide each shot into windows of ``frames`` pictures at ``fps``. ``shrink`` makes each kept picture smaller. For
    ``step`` see :func:`resample`. Damage before a shot, and a :class:`BrokenVideo` at the end of the pictures, becomes
    a leftover."""
    start = 0.0
    pictures: list[np.ndarray] = []
    try:
        for shot in shots:
            before, whole = _peeked(shot)
            if before:
                yield Leftover(before.seconds, 0.0, before)
            for frame in resample(whole, fps, step):
                start = start if pictures else frame.seconds
                height, width = frame.picture.shape[:2]
                pictures.append(shrink(frame.picture))
                if len(pictures) == frames:
                    yield Window(start, pictures, width, height)
                    pictures = []
            if pictures:
                yield Leftover(start, len(pictures) / fps)
                pictures = []
    except BrokenVideo as broken:
        yield Leftover(start if pictures else broken.seconds, len(pictures) / fps, broken)


def _peeked(shot: Iterable[TimedFrame]) -> tuple[BrokenVideo | None, Iterator[TimedFrame]]:
    """Return the damage before a shot, and the shot."""
    pictures = iter(shot)
    first = next(pictures)
    return first.broken, chain([first], pictures)


def resample(shot: Iterable[TimedFrame], fps: float, step: float) -> Iterator[TimedFrame]:
    """Yield pictures at ``fps``. The k-th is the one nearest to ``k / fps`` seconds after the shot's first picture, and
    the earlier of two equally near ones. The last picture stands for ``step`` seconds."""
    count, start = 0, 0.0
    previous: TimedFrame | None = None
    for frame in shot:
        if previous is None:
            start = frame.seconds
        else:
            middle = (previous.seconds + frame.seconds) / 2
            while start + count / fps <= middle + _ROUNDING:
                yield TimedFrame(start + count / fps, previous.picture)
                count += 1
        previous = frame
    while previous is not None and start + count / fps <= previous.seconds + step / 2 + _ROUNDING:
        yield TimedFrame(start + count / fps, previous.picture)
        count += 1
