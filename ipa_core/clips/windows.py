"""Cuts shots into windows of equally spaced pictures, back to back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final, Generic, TypeVar

from ipa_core.video import BrokenVideo, TimedFrame

_ROUNDING: Final = 1e-6
"""Seconds by which time stamps may be off without moving a picture."""


Kept = TypeVar("Kept")


@dataclass(frozen=True, eq=False)
class Window(Generic[Kept]):
    """The pictures of a clip, as they are kept. start: seconds from the source's first picture."""

    start: float
    pictures: list[Kept]


@dataclass(frozen=True)
class Leftover:
    """The rest of a shot after its last whole window. seconds: its length. broken: the damage that ended it, or that
    lies before the next shot."""

    start: float
    seconds: float
    broken: BrokenVideo | None = None


def windows(
    shots: Iterable[Iterable[TimedFrame]], frames: int, fps: float, step: float, keep: Callable[[TimedFrame], Kept]
) -> Iterator[Window[Kept] | Leftover]:
    """Divide each shot into windows of ``frames`` pictures at ``fps``. ``keep`` makes of a picture what a window holds.
    For ``step`` see :func:`resample`. Damage before a shot, and a :class:`BrokenVideo` at the end of the pictures,
    becomes a leftover."""
    start = 0.0
    pictures: list[Kept] = []
    try:
        for shot in shots:
            before, whole = _peeked(shot)
            if before:
                yield Leftover(before.seconds, 0.0, before)
            for seconds, frame in resample(whole, fps, step):
                start = start if pictures else seconds
                pictures.append(keep(frame))
                if len(pictures) == frames:
                    yield Window(start, pictures)
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


def resample(shot: Iterable[TimedFrame], fps: float, step: float) -> Iterator[tuple[float, TimedFrame]]:
    """Yield times at ``fps``, each with its picture. The k-th is the one nearest to ``k / fps`` seconds after the first
    picture of the shot, and the earlier of two equally near ones. The last picture stands for ``step`` seconds."""
    count, start = 0, 0.0
    previous: TimedFrame | None = None
    for frame in shot:
        if previous is None:
            start = frame.seconds
        else:
            middle = (previous.seconds + frame.seconds) / 2
            while start + count / fps <= middle + _ROUNDING:
                yield start + count / fps, previous
                count += 1
        previous = frame
    while previous is not None and start + count / fps <= previous.seconds + step / 2 + _ROUNDING:
        yield start + count / fps, previous
        count += 1
