"""Chooses the rectangle of the source that a clip shows. Boxes are in pixels of the upright source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from ipa_core.records import Box


def main_person(pictures: Iterable[Sequence[Box]]) -> Box | None:
    """Return the rectangle in which the main person moves, or None if no picture has people. ``pictures``: the people
    of each picture, largest first. The main person is the largest one of the first picture that has people, and in each
    later picture the one that overlaps most with the last box (the largest where none overlaps)."""
    followed: list[Box] = []
    for people in pictures:
        if not people:
            continue
        followed.append(max(people, key=lambda box: _overlap(box, followed[-1])) if followed else people[0])
    if not followed:
        return None
    left, top = min(box.x for box in followed), min(box.y for box in followed)
    right, bottom = max(box.x + box.width for box in followed), max(box.y + box.height for box in followed)
    return Box(x=left, y=top, width=right - left, height=bottom - top)


def _overlap(first: Box, second: Box) -> float:
    """Return intersection over union."""
    width = min(first.x + first.width, second.x + second.width) - max(first.x, second.x)
    height = min(first.y + first.height, second.y + second.height) - max(first.y, second.y)
    shared = max(0.0, width) * max(0.0, height)
    return shared / max(first.width * first.height + second.width * second.height - shared, 1e-9)


def crop_around(person: Box | None, width: int, height: int, aspect: float, margin: float) -> Box:
    """Return the rectangle of ``aspect`` (width over height) around ``person``, in whole pixels, in ``width x height``.

    ``margin`` is added on each side, as a share of the person's height. A rectangle that sticks out is moved in, and
    made smaller only if it is too large. If it is then too low for the whole person, it keeps the head. Without a
    person, it is the largest rectangle in the middle.
    """
    wanted = Box(x=0, y=0, width=width, height=height) if person is None else _grown(person, margin * person.height)
    crop_height = min(max(wanted.height, wanted.width / aspect), height, width / aspect)
    crop_width = crop_height * aspect
    left = wanted.x + (wanted.width - crop_width) / 2
    keeps_head = person is not None and crop_height < wanted.height
    top = wanted.y if keeps_head else wanted.y + (wanted.height - crop_height) / 2
    columns, rows = max(1, round(crop_width)), max(1, round(crop_height))
    return Box(
        x=round(min(max(left, 0), width - columns)),
        y=round(min(max(top, 0), height - rows)),
        width=columns,
        height=rows,
    )


def cut_out(picture: np.ndarray, crop: Box, source_width: int, width: int, height: int) -> np.ndarray:
    """Cut ``crop`` out of ``picture [H, W, 3]`` as ``[height, width, 3]``. The picture is the source in any size;
    ``crop`` is in pixels of the source with the width ``source_width``."""
    scale = picture.shape[1] / source_width
    top, left = round(crop.y * scale), round(crop.x * scale)
    bottom = max(top + 1, round((crop.y + crop.height) * scale))
    right = max(left + 1, round((crop.x + crop.width) * scale))
    part = picture[top:bottom, left:right]
    shrinks = part.shape[0] > height
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _grown(box: Box, by: float) -> Box:
    return Box(x=box.x - by, y=box.y - by, width=box.width + 2 * by, height=box.height + 2 * by)
