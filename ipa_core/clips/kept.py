"""How the pictures of a window wait until it is known which part of them the clip shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Protocol, Self

import cv2
import numpy as np

from ipa_core.clips.crop import cut_out
from ipa_core.config import ClipsConfig
from ipa_core.reading import Shown
from ipa_core.records import Box
from ipa_core.video import TimedFrame

_SEEN_SIDE: Final = 720
"""Pixels that the shorter side of the pictures in which people are looked for may always have."""
_STORED_SIDE: Final = 1080
"""The same of a large picture that waits. 81 pictures of 1920 x 1080 take 250 MB, with 10 bits 500 MB."""


class Kept(Protocol):
    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright source."""
        ...

    def held(self) -> Self:
        """Return it without what it does not need while it waits."""
        ...

    def seen(self) -> np.ndarray:
        """Return the picture ``[H, W, 3]`` in which people are looked for."""
        ...

    def cut(self, crop: Box, width: int, height: int) -> np.ndarray:
        """Return a part as ``[height, width, 3]``; ``crop`` is in pixels of the source."""
        ...


class Scaled:
    """A picture in RGB. A large one is scaled twice: now, and when it is cut. Earlier versions did this to all."""

    def __init__(self, frame: TimedFrame, config: ClipsConfig) -> None:
        height, width = frame.picture.shape[:2]
        self.size = width, height
        self._picture = cv2.resize(frame.picture, _seen_size(width, height, config), interpolation=cv2.INTER_AREA)

    def held(self) -> Self:
        return self

    def seen(self) -> np.ndarray:
        return self._picture

    def cut(self, crop: Box, width: int, height: int) -> np.ndarray:
        return cut_out(self._picture, crop, self.size[0], width, height)


@dataclass(frozen=True, eq=False)
class Stored:
    """A large picture in the colours in which it is stored. The part that is needed is scaled once, then converted."""

    shown: Shown
    size: tuple[int, int]
    seen_size: tuple[int, int]

    @classmethod
    def of(cls, frame: TimedFrame, config: ClipsConfig) -> Self:
        size = frame.shown.size
        return cls(frame.shown, size, _seen_size(*size, config))

    def held(self) -> Self:
        return replace(self, shown=self.shown.at_most(_STORED_SIDE))

    def seen(self) -> np.ndarray:
        width, height = self.shown.size
        return self.shown.part(Box(x=0, y=0, width=width, height=height), *self.seen_size)

    def cut(self, crop: Box, width: int, height: int) -> np.ndarray:
        return self.shown.part(crop.scaled(self.shown.size[0] / self.size[0]), width, height)


def _seen_size(width: int, height: int, config: ClipsConfig) -> tuple[int, int]:
    scale = min(1.0, max(_SEEN_SIDE, 2 * min(config.width, config.height)) / min(width, height))
    return round(width * scale), round(height * scale)
