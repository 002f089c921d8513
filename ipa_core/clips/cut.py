"""Cuts a driving video into its clips."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import blake3
import numpy as np

from ipa_core.clips.crop import crop_around, main_person
from ipa_core.clips.kept import Kept, Scaled, Stored
from ipa_core.clips.shots import shots
from ipa_core.clips.windows import Leftover, Window, windows
from ipa_core.config import ClipsConfig
from ipa_core.records import Box, Digest, Record, Rejected
from ipa_core.video import LARGE, UNTAGGED, TimedFrame, frames, look, probe, usual_fps

FindPeople = Callable[[np.ndarray], Sequence[Box]]
"""Takes a picture ``[H, W, 3]`` and returns the boxes of the people in its pixels, largest first."""

_LOOKS: Final = 3
"""Pictures of a window in which the person is looked for."""
_MISSING_PICTURES: Final = 4
"""A shot ends where more pictures of the least rate are missing. Until then the picture only stood still."""
_UNEVEN_GAP: Final = 1.5
"""The same where the average rate is too low: the rest must not have gaps in which hands jump."""


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
    path: Path,
    source: Digest,
    config: ClipsConfig,
    find_people: FindPeople | None,
    traits: Collection[str] | None = None,
) -> Iterator[CutClip | DroppedWindow]:
    """Cut a video into clips: windows of ``config.frames`` pictures at ``config.fps``, back to back, none across a cut.

    Yields in the order of time. Raises ``Rejected`` at the end when no clip came out. Damage divides a video as a cut
    does. ``crop: person`` needs ``find_people``; None crops in the middle. ``traits``: those of ``Look.traits`` that
    count; the others are read as earlier versions did. None: all.

    One window of pictures is in memory at a time. A picture is cut out at once where no person is looked for. Else it
    is kept whole (81 pictures of 1920 x 1080: 250 MB, 500 MB if they have 10 bits).
    """
    traits = look(path).traits if traits is None else traits
    fps, longest_gap = probe(path).fps, _MISSING_PICTURES / config.min_source_fps
    if fps < config.min_source_fps:
        # A recording of a screen has no pictures while nothing moves. Its other parts may do.
        average, fps, longest_gap = fps, usual_fps(path), _UNEVEN_GAP / config.min_source_fps
        if fps < config.min_source_fps:
            raise Rejected(f"{average:.3g} fps is below the {config.min_source_fps:g} fps that clips need")
    pictures = frames(path, most_pixels=1e9 * config.max_gigapixels, as_sd=UNTAGGED not in traits)
    parts = shots(pictures, config.cut_threshold, longest_gap)
    kept: Callable[[TimedFrame], Kept] = partial(Stored.of if LARGE in traits else Scaled, config=config)
    if find_people is None or config.crop == "center":
        found = windows(parts, config.frames, config.fps, 1 / fps, lambda frame: _cut(kept(frame), None, config))
    else:
        whole = windows(parts, config.frames, config.fps, 1 / fps, lambda frame: kept(frame).held())
        found = _around_people(whole, find_people, config)
    leftovers: list[Leftover] = []
    clips = 0
    for index, window in enumerate(found):
        if isinstance(window, Leftover):
            leftovers.append(window)
            yield DroppedWindow(index=index, start=round(window.start, 4), reason=_reason(window, config))
            continue
        cuts, crops = zip(*window.pictures, strict=True)
        reference = 0 if config.reference == "first" else reference_index(source, index, config.frames)
        yield CutClip(index, window.start, np.stack(cuts), crops[0], reference)
        del cuts
        window.pictures.clear()
        clips += 1
        if clips == config.max_windows:
            return
    if not clips:
        raise Rejected(_nothing_usable(leftovers, config))


_Cut = tuple[np.ndarray, Box]


def _around_people(
    found: Iterable[Window[Kept] | Leftover], find_people: FindPeople, config: ClipsConfig
) -> Iterator[Window[_Cut] | Leftover]:
    """Cut the pictures of each window around its main person."""
    for part in found:
        if isinstance(part, Leftover):
            yield part
            continue
        person = _main_person(part.pictures, find_people)
        cuts = [_cut(kept, person, config) for kept in part.pictures]
        part.pictures.clear()  # Frees the memory before the next window is filled.
        yield Window(part.start, cuts)


def _cut(kept: Kept, person: Box | None, config: ClipsConfig) -> _Cut:
    """Return the clip's part of a picture, and where it lies."""
    crop = crop_around(person, *kept.size, config.width / config.height, config.crop_margin)
    return kept.cut(crop, config.width, config.height), crop


def _main_person(pictures: Sequence[Kept], find_people: FindPeople) -> Box | None:
    looks = sorted({round(at) for at in np.linspace(0, len(pictures) - 1, _LOOKS)})
    return main_person(_people(pictures[look], find_people) for look in looks)


def _people(kept: Kept, find_people: FindPeople) -> list[Box]:
    seen = kept.seen()
    return [box.scaled(kept.size[0] / seen.shape[1]) for box in find_people(seen)]


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
