"""Pictures and films of the report: before and after side by side, with each frame's hands enlarged beside it.

Pictures are JPEG bytes of a few ten kilobytes, films mp4 of a few hundred, because a report holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from ipa_core.drawing import draw_overlay
from ipa_core.keypoints import HANDS
from ipa_core.records import PoseSequence, Side
from ipa_core.video import encode_video

HEIGHT: Final = 168
"""Pixels of a row."""
QUALITY: Final = 82
GAP: Final = 4
GREY: Final = 127
CROP_SCALE: Final = 1.8
"""Side of a hand's crop, in hand sizes."""
ROWS: Final = ("driving", "base", "aligned")
"""Names of a sheet's rows and of a film's panels, in their order."""
FILM_HEIGHT: Final = 256
"""Most pixels of a film's height; smaller videos keep theirs."""
FILM_CRF: Final = 23


@dataclass(frozen=True, eq=False)
class Shot:
    """A video, uint8 RGB ``[T, H, W, 3]``, and the pose to draw over it (None: nothing)."""

    video: np.ndarray
    overlay: PoseSequence | None


def comparison_sheet(
    driving_video: np.ndarray, driving: PoseSequence, base: Shot, aligned: Shot, columns: int = 3
) -> tuple[bytes, ...]:
    """Return a JPEG for each of :data:`ROWS`, all of one size: ``columns`` frames that show hands.

    Hand crops are cut at the driving hands, without a skeleton, so that a reader can judge the hands.
    """
    frames = telling_frames(driving, columns)
    return tuple(contact_sheet([_row(shot, driving, frames)]) for shot in (Shot(driving_video, driving), base, aligned))


def film(videos: Sequence[np.ndarray], fps: float) -> bytes:
    """Return one mp4 of the videos side by side, uint8 RGB ``[T, H, W, 3]`` of one size, so that they play in step and
    without a script."""
    height, width = videos[0].shape[1:3]
    scale = min(1.0, FILM_HEIGHT / height)
    size = 2 * round(width * scale / 2), 2 * round(height * scale / 2)  # H.264 wants even sizes.
    panels = [
        np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in video]) for video in videos
    ]
    return encode_video(np.concatenate(panels, axis=2), fps, crf=FILM_CRF)


def before_after(clips: Sequence[tuple[PoseSequence, Sequence[np.ndarray]]]) -> bytes:
    """Return one frame of each clip with its hands enlarged, side by side. A clip is its driving pose and the videos of
    the rows: the driving video, one model, another."""
    parts = [[_row(Shot(video, None), pose, telling_frames(pose, 1)) for video in videos] for pose, videos in clips]
    return contact_sheet([[picture for clip in row for picture in clip] for row in zip(*parts, strict=True)])


def candidate_strip(video: np.ndarray, driving: PoseSequence, columns: int = 2) -> bytes:
    """Return a few frames of one candidate with their hands enlarged, in one row."""
    return contact_sheet([_row(Shot(video, None), driving, telling_frames(driving, columns))], height=HEIGHT * 3 // 4)


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], *, height: int = HEIGHT) -> bytes:
    """Tile pictures, uint8 RGB of any size, into one JPEG. Scale each to ``height`` and fill rows with grey.

    Pictures of one column should have one aspect ratio, to line up. Raises ``ValueError`` when there is no picture.
    """
    if not any(rows):
        raise ValueError("a contact sheet needs at least one picture")
    strips = [_join([_scaled(picture, height) for picture in row], axis=1) for row in rows if row]
    width = max(strip.shape[1] for strip in strips)
    filled = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=GREY) for strip in strips]
    return encode_jpeg(_join(filled, axis=0))


def encode_jpeg(picture: np.ndarray) -> bytes:
    """Encode uint8 RGB ``[H, W, 3]`` as JPEG; the same picture gives the same bytes."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return data.tobytes()


def telling_frames(driving: PoseSequence, count: int) -> list[int]:
    """Return ``count`` frames, spread over those with two hands; if these are too few, with one, else over all."""
    hands = np.array([(driving.confidence[:, part] > 0).any(axis=1) for part in HANDS.values()]).sum(axis=0)
    for least in (2, 1, 0):
        frames = np.flatnonzero(hands >= least)
        if len(frames) >= count:
            break
    return [int(frames[place]) for place in spread(len(frames), count)]


def spread(frames: int, count: int) -> list[int]:
    """Return ``count`` frame numbers, evenly over the clip with its ends; all of them if there are fewer."""
    return sorted({round(place) for place in np.linspace(0, frames - 1, min(count, frames)).tolist()})


def hand_crop(picture: np.ndarray, driving: PoseSequence, frame: int, side: Side) -> np.ndarray:
    """Return a square around one driving hand, ``[S, S, 3]``: grey outside the picture, all grey without a hand."""
    found = driving.confidence[frame, HANDS[side]] > 0
    points = driving.keypoints[frame, HANDS[side]][found]
    if not len(points):
        return np.full((8, 8, 3), GREY, np.uint8)
    low, high = points.min(axis=0), points.max(axis=0)
    side_length = max(8, round(float((high - low).max()) * CROP_SCALE))
    left, top = (int(value) for value in np.rint((low + high - side_length) / 2))
    crop = np.full((side_length, side_length, 3), GREY, np.uint8)
    rows = np.clip([top, top + side_length], 0, picture.shape[0])
    columns = np.clip([left, left + side_length], 0, picture.shape[1])
    crop[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left] = picture[slice(*rows), slice(*columns)]
    return crop


def _row(shot: Shot, driving: PoseSequence, frames: Sequence[int]) -> list[np.ndarray]:
    """Return the picture and both hands of each frame; the person's right hand, mostly on the left, comes first."""
    row: list[np.ndarray] = []
    for frame in frames:
        picture = shot.video[frame]
        enlarged = _scaled(picture, HEIGHT)
        if shot.overlay is not None:
            keypoints = shot.overlay.keypoints[frame] * (HEIGHT / picture.shape[0])
            enlarged = draw_overlay(enlarged, keypoints, shot.overlay.confidence[frame])
        row += [enlarged, hand_crop(picture, driving, frame, "right"), hand_crop(picture, driving, frame, "left")]
    return row


def _scaled(picture: np.ndarray, height: int) -> np.ndarray:
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    smaller = height < picture.shape[0]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)


def _join(pictures: Sequence[np.ndarray], axis: int) -> np.ndarray:
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, GREY, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis=axis)
