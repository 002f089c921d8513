"""Cuts shots into windows of equally spaced pictures, back to back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ipa_core.video import BrokenVideo, TimedFrame

_ROUNDING: Final = 1e-6
"""Seconds by which time stamps may be off without moving a picture."""


@dataclass(frozen=True, eq=False)
class Window:
    """The pictures of a clip (uint8 ``[H, W, 3]``). start: seconds from the source's first picture."""

    start: float
    pictures: list[np.ndarray]


@dataclass(frozen=True)
class Leftover:
    """The rest of a shot after its last whole window. seconds: its length. broken: the damage that ended the video."""

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
    ``step`` see :func:`resample`. A :class:`BrokenVideo` at the end of the pictures becomes the last leftover."""
    start = 0.0
    pictures: list[np.ndarray] = []
    try:
        for shot in shots:
            for frame in resample(shot, fps, step):
                start = start if pictures else frame.seconds
                pictures.append(shrink(frame.picture))
                if len(pictures) == frames:
                    yield Window(start, pictures)
                    pictures = []
            if pictures:
                yield Leftover(start, len(pictures) / fps)
                pictures = []
    except BrokenVideo as broken:
        yield Leftover(start if pictures else broken.seconds, len(pictures) / fps, broken)


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
