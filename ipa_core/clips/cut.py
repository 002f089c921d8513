"""Cuts a driving video into its clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import blake3
import cv2
import numpy as np

from ipa_core.clips.crop import crop_around, cut_out, main_person
from ipa_core.clips.shots import shots
from ipa_core.clips.windows import Leftover, Window, windows
from ipa_core.config import ClipsConfig
from ipa_core.records import Box, Digest, Record, Rejected
from ipa_core.video import frames, probe, usual_fps

FindPeople = Callable[[np.ndarray], Sequence[Box]]
"""Takes a picture ``[H, W, 3]`` and returns the boxes of the people in its pixels, largest first."""

_LOOKS: Final = 3
"""Pictures of a window in which the person is looked for."""
_MISSING_PICTURES: Final = 4
"""A shot ends where more pictures of the least rate are missing. Until then the picture only stood still."""
_UNEVEN_GAP: Final = 1.5
"""The same where the average rate is too low: the rest must not have gaps in which hands jump."""
_HELD_SIDE: Final = 720
"""Pixels that the shorter side of kept pictures may always have."""


@dataclass(frozen=True, eq=False)
class CutClip:
    """One clip: ``frames`` uint8 ``[F, height, width, 3]`` at the config's rate and size.

    index: position among the source's windows, whole or dropped. start: seconds from the source's first picture. crop:
    in pixels of the upright source.
    """

    index: int
    start: float
    frames: np.ndarray
    crop: Box
    reference_index: int


class DroppedWindow(Record):
    """A part of the source that became no clip, with the reason. start: seconds."""

    index: int
    start: float
    reason: str


def cut_video(
    path: Path, source: Digest, config: ClipsConfig, find_people: FindPeople | None, *, as_sd: bool = False
) -> Iterator[CutClip | DroppedWindow]:
    """Cut a video into clips: windows of ``config.frames`` pictures at ``config.fps``, back to back, none across a cut.

    Yields in the order of time. Raises ``Rejected`` at the end when no clip came out. Damage divides a video as a cut
    does. ``crop: person`` needs ``find_people``; None crops in the middle. For ``as_sd`` see ``ipa_core.video.frames``.

    One window of pictures is in memory at a time. A picture is cut out at once where no person is looked for. Else it
    is kept whole, scaled so that the shorter side is at most 720 pixels or twice the clip's (81 pictures of 1707 x 960:
    400 MB).
    """
    fps, longest_gap = probe(path).fps, _MISSING_PICTURES / config.min_source_fps
    if fps < config.min_source_fps:
        # A recording of a screen has no pictures while nothing moves. Its other parts may do.
        average, fps, longest_gap = fps, usual_fps(path), _UNEVEN_GAP / config.min_source_fps
        if fps < config.min_source_fps:
            raise Rejected(f"{average:.3g} fps is below the {config.min_source_fps:g} fps that clips need")
    pictures = frames(path, most_pixels=1e9 * config.max_gigapixels, as_sd=as_sd)
    parts = shots(pictures, config.cut_threshold, longest_gap)
    if config.crop == "center":
        find_people = None
    shrink = partial(_shrunk, config=config) if find_people else partial(_centred, config=config)
    found = windows(parts, config.frames, config.fps, step=1 / fps, shrink=shrink)
    leftovers: list[Leftover] = []
    clips = 0
    for index, window in enumerate(found):
        if isinstance(window, Leftover):
            leftovers.append(window)
            yield DroppedWindow(index=index, start=round(window.start, 4), reason=_reason(window, config))
            continue
        yield _clip(index, window, source, config, find_people)
        window.pictures.clear()  # Frees the memory before the next window is filled.
        clips += 1
        if clips == config.max_windows:
            return
    if not clips:
        raise Rejected(_nothing_usable(leftovers, config))


def _shrunk(picture: np.ndarray, config: ClipsConfig) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = min(1.0, max(_HELD_SIDE, 2 * min(config.width, config.height)) / min(width, height))
    return cv2.resize(picture, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def _centred(picture: np.ndarray, config: ClipsConfig) -> np.ndarray:
    height, width = picture.shape[:2]
    return cut_out(_shrunk(picture, config), _crop(None, width, height, config), width, config.width, config.height)


def _crop(person: Box | None, width: int, height: int, config: ClipsConfig) -> Box:
    return crop_around(person, width, height, config.width / config.height, config.crop_margin)


def _clip(index: int, window: Window, source: Digest, config: ClipsConfig, find_people: FindPeople | None) -> CutClip:
    person, pictures = None, window.pictures
    if find_people is not None:
        looks = sorted({round(at) for at in np.linspace(0, config.frames - 1, _LOOKS)})
        scale = window.width / pictures[0].shape[1]
        person = main_person([_scaled(box, scale) for box in find_people(pictures[look])] for look in looks)
    crop = _crop(person, window.width, window.height, config)
    if find_people is not None:
        pictures = [cut_out(picture, crop, window.width, config.width, config.height) for picture in pictures]
    reference = 0 if config.reference == "first" else reference_index(source, index, config.frames)
    return CutClip(index, window.start, np.stack(pictures), crop, reference)


def _scaled(box: Box, by: float) -> Box:
    return Box(x=box.x * by, y=box.y * by, width=box.width * by, height=box.height * by)


def reference_index(source: Digest, index: int, frames: int) -> int:
    """Return the frame of a window that is its reference image: evenly distributed, the same on every machine."""
    number = int.from_bytes(blake3.blake3(f"{source}/{index}".encode()).digest()[:8])
    return number % frames


def _reason(leftover: Leftover, config: ClipsConfig) -> str:
    if leftover.broken is not None:
        return str(leftover.broken)
    return f"{leftover.seconds:.3g} s left over, a clip needs {config.frames / config.fps:.3g} s"


def _nothing_usable(leftovers: list[Leftover], config: ClipsConfig) -> str:
    last, needed = leftovers[-1], f"{config.frames / config.fps:.3g} s"
    if last.broken is not None:
        return str(last.broken)
    shots = [leftover.seconds for leftover in leftovers if leftover.broken is None]
    if len(shots) == 1:
        return f"{shots[0]:.3g} s is shorter than one clip of {needed}"
    return f"the longest of {len(shots)} shots has {max(shots):.3g} s, a clip needs {needed}"
