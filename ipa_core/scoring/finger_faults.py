"""Harder faults of fingers, and the places where the finger network learns and is judged.

They are no part of ``CORRUPTIONS``, on which the hand score is fitted: a longer list would change the random draws of
every corruption there. A fault of this module spoils one hand in every frame alike, at a severity of 1 to 3.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import cv2
import numpy as np

from ipa_core.keypoints import FINGERS
from ipa_core.scoring.corruptions import (
    CORRUPTIONS,
    FINGER_WIDTH,
    Hand,
    Picture,
    Points,
    corrupt,
    grid,
    mixed,
    painted_over,
    resample,
    soft,
    stroke,
)

OF_CORRUPTIONS: Final = ("finger_erased", "finger_added", "fingers_fused", "missing", "duplicated", "swapped", "warp")
"""Kinds of ``CORRUPTIONS`` that a look at the fingers shows."""


def spoil(kind: str, frames: np.ndarray, points: Points, severity: int, seed: int) -> np.ndarray:
    """Return ``frames`` uint8 ``[T, H, W, 3]`` with the hand at ``points [T, 21, 2]`` spoilt by a fault of ``FAULTS``.

    Raises ``ValueError`` like :func:`corrupt`.
    """
    if kind in CORRUPTIONS:
        return corrupt(kind, frames, points, severity, seed)
    known = np.isfinite(points).all(axis=(1, 2))
    if kind not in HARDER or not known.any():
        raise ValueError(f"there is no fault {kind!r}, or the hand is in no frame of the video")
    rng = np.random.default_rng([seed, severity, 1000 + list(HARDER).index(kind)])
    size = float(np.percentile(np.ptp(points[known], axis=1).max(axis=1), 75))
    change = HARDER[kind](Hand(frames, points, size, severity, rng))
    spoilt = frames.copy()
    for frame in np.flatnonzero(known):
        spoilt[frame] = change(int(frame))
    return spoilt


def _tip_erased(hand: Hand) -> Callable[[int], Picture]:
    """Remove the last phalanx of a finger, or the last and a half."""
    finger = int(hand.rng.integers(5))
    share = hand.grade(0.0, 0.3, 0.6)

    def change(frame: int) -> Picture:
        line = hand.points[frame][list(FINGERS[finger])]
        start = line[2] + share * (line[1] - line[2])
        gone = np.stack([start, line[2], line[3], line[3] + 0.4 * (line[3] - line[2])])
        mask = _mask(hand, frame, gone, 1.45)
        keep = _others(hand, frame, finger) | _mask(hand, frame, np.stack([line[0], start]), 1.2)
        return painted_over(hand.frames[frame], np.where(keep > 0, 0, mask).astype(np.uint8))

    return change


def _thumb_erased(hand: Hand) -> Callable[[int], Picture]:
    """Remove the thumb from its last joint but one on; from severity 2 on with the ball of the thumb."""
    share = hand.grade(0.0, 0.3, 0.6)

    def change(frame: int) -> Picture:
        thumb = hand.points[frame][list(FINGERS[0])]
        start = thumb[1] + share * (thumb[0] - thumb[1])
        gone = np.stack([start, *thumb[1:], thumb[3] + 0.4 * (thumb[3] - thumb[2])])
        mask = _mask(hand, frame, gone, 1.6)
        keep = _others(hand, frame, 0)
        return painted_over(hand.frames[frame], np.where(keep > 0, 0, mask).astype(np.uint8))

    return change


def _length(hand: Hand) -> Callable[[int], Picture]:
    """Make a finger shorter or longer, as a smooth displacement along its bones."""
    finger = int(hand.rng.integers(1, 5))
    factor = hand.grade(1.3, 1.45, 1.6)
    factor = factor if hand.rng.random() < 0.5 else 1 / factor

    def change(frame: int) -> Picture:
        picture = hand.frames[frame]
        base, tip = hand.points[frame][[FINGERS[finger][0], FINGERS[finger][3]]]
        axis = (tip - base) / max(float(np.hypot(*(tip - base))), 1e-6)
        away = grid(picture) - base
        along = np.maximum(away @ axis, 0)
        end = base + (tip - base) * (max(factor, 1.0) + 0.12)
        moved = along / factor - along
        share = soft(_mask(hand, frame, np.stack([base, end]), 1.5), 0.02 * hand.size)
        return mixed(picture, resample(picture, grid(picture) + moved[..., None] * axis), share)

    return change


def _thickness(hand: Hand) -> Callable[[int], Picture]:
    """Make a finger thinner or thicker about the line of its joints."""
    finger = int(hand.rng.integers(5))
    thick = hand.rng.random() < 0.5
    factor = hand.grade(1.5, 1.75, 2.1) if thick else hand.grade(0.55, 0.45, 0.35)

    def change(frame: int) -> Picture:
        picture = hand.frames[frame]
        line = hand.points[frame][list(FINGERS[finger])]
        pixels = grid(picture)
        nearest = _nearest(pixels, line)
        reach = FINGER_WIDTH * hand.size * (1.0 if thick else 1.1)
        away = pixels - nearest
        distance = np.hypot(away[..., 0], away[..., 1])
        fade = np.clip(1.6 - distance / reach, 0, 1)
        scale = 1 + (1 / factor - 1) * fade
        return resample(picture, nearest + away * scale[..., None])

    return change


def _bent(hand: Hand) -> Callable[[int], Picture]:
    """Turn the end of a finger sideways about a joint, or about a place between joints (one joint too many)."""
    finger = int(hand.rng.integers(5))
    angle = hand.grade(40, 60, 90) * (1 if hand.rng.random() < 0.5 else -1)
    joint, beyond = int(hand.rng.integers(1, 3)), float(hand.rng.choice([0.0, 0.5]))

    def change(frame: int) -> Picture:
        line = hand.points[frame][list(FINGERS[finger])]
        pivot = line[joint] + beyond * (line[joint + 1] - line[joint])
        end = np.concatenate([[pivot], line[joint + 1 :], [line[3] + 0.35 * (line[3] - line[2])]])
        return _moved(hand, frame, finger, end, cv2.getRotationMatrix2D(_pair(pivot), angle, 1.0), gone=True)

    return change


def _thumb_moved(hand: Hand) -> Callable[[int], Picture]:
    """Put a mirrored copy of the thumb at the little finger's side; severities 2 and 3 remove the thumb."""
    keep = hand.severity == 1

    def change(frame: int) -> Picture:
        points = hand.points[frame]
        thumb = points[list(FINGERS[0])]
        knuckles = points[17] - points[5]
        axis = points[9] - points[0]
        axis = axis / max(float(np.hypot(*axis)), 1e-6)
        mirror = 2 * np.outer(axis, axis) - np.eye(2)
        middle = points[0] + 0.5 * (points[5] + points[17] - 2 * points[0]) + 0.05 * knuckles
        matrix = np.column_stack([mirror, middle - mirror @ middle])
        line = np.concatenate([thumb[1:], [thumb[3] + 0.3 * (thumb[3] - thumb[2])]])
        return _moved(hand, frame, 0, line, matrix, gone=not keep)

    return change


def _six(hand: Hand) -> Callable[[int], Picture]:
    """Add a sixth finger at a knuckle of its own: between two fingers, or beside the little finger."""
    finger = int(hand.rng.integers(1, 5))
    scale = float(hand.rng.uniform(0.85, 1.0))
    spread = hand.grade(6, 10, 14)

    def change(frame: int) -> Picture:
        points = hand.points[frame]
        line = points[list(FINGERS[finger])]
        next_finger = points[list(FINGERS[finger + 1])] if finger < 4 else 2 * line - points[list(FINGERS[3])]
        share = 0.5 if finger < 4 else 0.85
        knuckle = line[0] + share * (next_finger[0] - line[0])
        here, there = (np.arctan2(*(one[2] - one[0])[::-1]) for one in (line, next_finger))
        turn = np.degrees((there - here + np.pi) % (2 * np.pi) - np.pi) * share
        turn += spread * (np.sign(turn) or 1.0) * (finger == 4)
        matrix = cv2.getRotationMatrix2D(_pair(line[0]), -float(turn), scale)
        matrix[:, 2] += knuckle - line[0]
        tip = np.concatenate([line[0:1] + 0.15 * (line[1] - line[0]), line[1:], [line[3] + 0.3 * (line[3] - line[2])]])
        return _moved(hand, frame, finger, tip, matrix, gone=False)

    return change


HARDER: Final[dict[str, Callable[[Hand], Callable[[int], Picture]]]] = {
    "finger_bent": _bent,
    "finger_length": _length,
    "finger_thickness": _thickness,
    "six_fingers": _six,
    "thumb_moved": _thumb_moved,
    "tip_erased": _tip_erased,
    "thumb_erased": _thumb_erased,
}
"""Random draws follow from a fault's place here, so new ones come last."""
FAULTS: Final = (*OF_CORRUPTIONS, *HARDER)
"""Faults that the finger network learns and is judged on."""


def _moved(hand: Hand, frame: int, finger: int, line: Points, matrix: np.ndarray, *, gone: bool) -> Picture:
    """Copy the part of a finger along ``line`` by ``matrix [2, 3]``; ``gone`` removes the part from its old place."""
    picture = hand.frames[frame]
    part = _mask(hand, frame, line, 1.15)
    size = picture.shape[1::-1]
    copy = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    emptied = picture
    if gone:
        wide = _mask(hand, frame, line[1:] if len(line) > 2 else line, 1.45)
        emptied = painted_over(picture, np.where(_others(hand, frame, finger) > 0, 0, wide).astype(np.uint8))
    return mixed(emptied, copy, soft(cv2.warpAffine(part, matrix, size), 0.015 * hand.size))


def _mask(hand: Hand, frame: int, line: Points, width: float) -> Picture:
    """Return a stroke along ``line`` that is ``width`` fingers wide."""
    mask = np.zeros(hand.frames.shape[1:3], np.uint8)
    stroke(mask, line, FINGER_WIDTH * width * hand.size)
    return mask


def _others(hand: Hand, frame: int, finger: int) -> Picture:
    """Return the other fingers."""
    mask = np.zeros(hand.frames.shape[1:3], np.uint8)
    for number in range(5):
        if number != finger:
            stroke(mask, hand.points[frame][list(FINGERS[number])], FINGER_WIDTH * hand.size)
    return mask


def _nearest(pixels: np.ndarray, line: Points) -> np.ndarray:
    """Return for each pixel ``[H, W, 2]`` the nearest place on a polyline."""
    best, least = np.zeros_like(pixels), np.full(pixels.shape[:2], np.inf)
    for start, end in pairwise(line):
        along = end - start
        share = np.clip(((pixels - start) @ along) / max(float(along @ along), 1e-6), 0, 1)
        place = start + share[..., None] * along
        distance = ((pixels - place) ** 2).sum(axis=2)
        nearer = distance < least
        best[nearer], least[nearer] = place[nearer], distance[nearer]
    return best


def _pair(point: np.ndarray) -> tuple[float, float]:
    return float(point[0]), float(point[1])
