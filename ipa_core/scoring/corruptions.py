"""Faults of generated hands, put into a faultless video. The hand score is fitted and judged on the spoilt videos.

A corruption takes a video and the 21 points of one of its hands. It spoils that hand in every frame (``transient_blur``
in five frames), at a severity of 1 (just visible), 2 or 3 (gross).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ipa_core.keypoints import FINGERS

Picture = NDArray[np.uint8]
Points = NDArray[np.float64]
COLLAPSE: Final = 5
"""Number of frames of a transient fault."""
FINGER_WIDTH = 0.17
"""Width of a finger in hand sizes (longer side of the box of an open hand)."""


@dataclass(frozen=True, eq=False)
class Hand:
    """frames: uint8 RGB ``[T, H, W, 3]``; points: ``[T, 21, 2]`` pixels, NaN in frames without the hand;
    size: size of the hand in the clip, pixels; severity: 1 to 3."""

    frames: np.ndarray
    points: Points
    size: float
    severity: int
    rng: np.random.Generator

    def grade(self, *values: float) -> float:
        """Return the value for this severity."""
        return values[self.severity - 1]


def corrupt(kind: str, frames: np.ndarray, points: Points, severity: int, seed: int) -> np.ndarray:
    """Return ``frames`` with one hand spoilt; the result follows from the arguments alone.

    Raises ``ValueError`` when ``kind`` is none of ``CORRUPTIONS``, or when no frame has all 21 points.
    """
    known = np.isfinite(points).all(axis=(1, 2))
    if not known.any():
        raise ValueError("the hand is in no frame of the video, so it can't be corrupted")
    boxes = np.ptp(points[known], axis=1).max(axis=1)
    rng = np.random.default_rng([seed, severity, sorted(CORRUPTIONS).index(kind)])
    hand = Hand(frames, points, float(np.percentile(boxes, 75)), severity, rng)
    change = CORRUPTIONS[kind](hand)
    spoilt = frames.copy()
    for frame in np.flatnonzero(known):
        spoilt[frame] = change(int(frame))
    return spoilt


def _blur(hand: Hand) -> Callable[[int], Picture]:
    sigma = hand.size * hand.grade(0.025, 0.05, 0.09)
    return lambda frame: _blend(hand, frame, cv2.GaussianBlur(hand.frames[frame], (0, 0), sigma))


def _transient_blur(hand: Hand) -> Callable[[int], Picture]:
    sigma = hand.size * hand.grade(0.03, 0.06, 0.1)
    known = np.flatnonzero(np.isfinite(hand.points).all(axis=(1, 2)))
    start = known[hand.rng.integers(max(1, len(known) - COLLAPSE + 1))]

    def change(frame: int) -> Picture:
        if not start <= frame < start + COLLAPSE:
            return hand.frames[frame]
        return _blend(hand, frame, cv2.GaussianBlur(hand.frames[frame], (0, 0), sigma))

    return change


def _warp(hand: Hand) -> Callable[[int], Picture]:
    """Displace pixels by a smooth random field that changes slowly."""
    strength = hand.size * hand.grade(0.07, 0.11, 0.17)
    knots = hand.rng.normal(0, 1, (2, 2, 5, 5)).astype(np.float32)

    def change(frame: int) -> Picture:
        phase = 0.3 * frame
        field = knots[0] * np.cos(phase) + knots[1] * np.sin(phase)
        side = 2.4 * hand.size
        centre = hand.points[frame].mean(axis=0)
        pixels = grid(hand.frames[frame])
        place = (((pixels - centre) / side + 0.5) * 4).astype(np.float32)
        moves = [cv2.remap(part, place[..., 0], place[..., 1], cv2.INTER_CUBIC) for part in field]
        return _blend(hand, frame, resample(hand.frames[frame], pixels + strength * np.stack(moves, -1)))

    return change


def _finger_erased(hand: Hand) -> Callable[[int], Picture]:
    fingers = hand.rng.choice(np.arange(1, 5), int(hand.grade(1, 1, 2)), replace=False)
    first = int(hand.grade(2, 1, 1))

    def change(frame: int) -> Picture:
        mask = np.zeros(hand.frames.shape[1:3], np.uint8)
        others = np.zeros_like(mask)
        for number in range(5):
            line = hand.points[frame][list(FINGERS[number])][first if number in fingers else 0 :]
            stroke(mask if number in fingers else others, line, FINGER_WIDTH * 1.5 * hand.size)
        return painted_over(hand.frames[frame], np.where(others > 0, 0, mask).astype(np.uint8))

    return change


def _finger_added(hand: Hand) -> Callable[[int], Picture]:
    """Add a copy of a finger, turned about its knuckle into the gap beside it or away from the hand."""
    finger = int(hand.rng.integers(1, 5))
    angle = hand.grade(14, 20, 28) * (1 if hand.rng.random() < 0.5 else -1)

    def change(frame: int) -> Picture:
        line = hand.points[frame][list(FINGERS[finger])]
        turn = cv2.getRotationMatrix2D((float(line[0][0]), float(line[0][1])), angle, 1.0)
        mask = np.zeros(hand.frames.shape[1:3], np.uint8)
        stroke(mask, line[1:], FINGER_WIDTH * 1.1 * hand.size)
        size = mask.shape[::-1]
        copy = cv2.warpAffine(hand.frames[frame], turn, size, borderMode=cv2.BORDER_REPLICATE)
        return mixed(hand.frames[frame], copy, soft(cv2.warpAffine(mask, turn, size), 0.02 * hand.size))

    return change


def _fingers_fused(hand: Hand) -> Callable[[int], Picture]:
    """Fill the gap between neighbouring fingers with their colour."""
    count = int(hand.grade(1, 2, 3))
    first = int(hand.rng.integers(1, 5 - count))

    def change(frame: int) -> Picture:
        points = hand.points[frame]
        mask = np.zeros(hand.frames.shape[1:3], np.uint8)
        for number in range(first, first + count):
            web = np.concatenate([points[list(FINGERS[number])], points[list(FINGERS[number + 1])][::-1]])
            cv2.fillPoly(mask, [np.round(web).astype(np.int32)], 255)
            for finger in (number, number + 1):
                stroke(mask, points[list(FINGERS[finger])], 0.6 * FINGER_WIDTH * hand.size)
        skin = cv2.erode(mask, np.ones((3, 3), np.uint8)) if mask.sum() > 255 * 60 else mask
        colour = np.median(hand.frames[frame][skin > 0], axis=0) if skin.any() else 0
        smooth = cv2.GaussianBlur(hand.frames[frame], (0, 0), 0.08 * hand.size)
        return mixed(hand.frames[frame], (0.4 * smooth + 0.6 * colour).astype(np.uint8), soft(mask, 0.02 * hand.size))

    return change


def _missing(hand: Hand) -> Callable[[int], Picture]:
    """Remove the hand from the tips on. Severity is the share that is gone."""
    share = hand.grade(0.5, 0.75, 1.0)

    def change(frame: int) -> Picture:
        points = hand.points[frame]
        away = points - points[0]
        along = away @ away[9] / max(float(away[9] @ away[9]), 1e-6)
        gone = points[along >= np.quantile(along, 1 - share)]
        mask = np.zeros(hand.frames.shape[1:3], np.uint8)
        cv2.fillConvexPoly(mask, cv2.convexHull(np.round(gone).astype(np.int32)), 255)
        return painted_over(hand.frames[frame], _wider(mask, 0.14 * hand.size))

    return change


def _duplicated(hand: Hand) -> Callable[[int], Picture]:
    turn = hand.rng.uniform(0, 2 * np.pi)
    shift = hand.size * hand.grade(0.35, 0.6, 0.9) * np.array([np.cos(turn), np.sin(turn)])

    def change(frame: int) -> Picture:
        move = np.column_stack([np.eye(2), shift])
        size = hand.frames.shape[2], hand.frames.shape[1]
        copy = cv2.warpAffine(hand.frames[frame], move, size, borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpAffine(hull(hand, frame, 0.08), move, size)
        return mixed(hand.frames[frame], copy, soft(mask, 0.03 * hand.size))

    return change


def _swapped(hand: Hand) -> Callable[[int], Picture]:
    """Mirror the hand about its axis, so that the thumb is on the other side. Severity widens the mirrored region."""
    margin = hand.grade(0.06, 0.1, 0.16)

    def change(frame: int) -> Picture:
        points = hand.points[frame]
        axis = points[9] - points[0]
        axis = axis / max(float(np.hypot(*axis)), 1e-6)
        pixels = grid(hand.frames[frame]) - points[0]
        mirrored = 2 * (pixels @ axis)[..., None] * axis - pixels + points[0]
        here = hull(hand, frame, margin)
        both = np.maximum(here, resample(here, mirrored, cv2.BORDER_CONSTANT))
        return mixed(hand.frames[frame], resample(hand.frames[frame], mirrored), soft(both, 0.03 * hand.size))

    return change


def _wrong_gesture(hand: Hand) -> Callable[[int], Picture]:
    """Put the hand of another moment onto this wrist. A higher severity takes a less similar hand."""
    known = np.flatnonzero(np.isfinite(hand.points).all(axis=(1, 2)))
    shapes = np.stack([_upright(hand.points[frame]) for frame in known])

    def change(frame: int) -> Picture:
        unlike = np.linalg.norm(shapes - _upright(hand.points[frame]), axis=2).mean(axis=1)
        other = known[np.argsort(unlike)[round(hand.grade(0.6, 0.8, 1.0) * (len(known) - 1))]]
        here, there = hand.points[frame], hand.points[other]
        move = cv2.estimateAffinePartial2D(there[[0, 5, 9, 13, 17]], here[[0, 5, 9, 13, 17]])[0]
        if move is None:
            return hand.frames[frame]
        size = hand.frames.shape[2], hand.frames.shape[1]
        copy = cv2.warpAffine(hand.frames[other], move, size, borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpAffine(hull(hand, int(other), 0.1), move, size)
        emptied = painted_over(hand.frames[frame], hull(hand, frame, 0.08))
        return mixed(emptied, copy, soft(mask, 0.03 * hand.size))

    return change


def _flicker(hand: Hand) -> Callable[[int], Picture]:
    """Move the hand and change its size from frame to frame."""
    count = len(hand.frames)
    amount = hand.grade(0.05, 0.09, 0.15)
    shifts = hand.rng.normal(0, amount * hand.size, (count, 2))
    scales = np.exp(hand.rng.normal(0, amount, count))

    def change(frame: int) -> Picture:
        centre = hand.points[frame].mean(axis=0)
        place = (grid(hand.frames[frame]) - centre - shifts[frame]) / scales[frame] + centre
        return _blend(hand, frame, resample(hand.frames[frame], place))

    return change


def _smear(hand: Hand) -> Callable[[int], Picture]:
    """Smear the hand in one direction and reduce its contrast."""
    length = max(3, int(hand.size * hand.grade(0.15, 0.25, 0.4)) | 1)
    contrast = hand.grade(0.6, 0.45, 0.3)
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), float(hand.rng.uniform(0, 180)), 1.0)
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    kernel = cv2.warpAffine(line, turn, (length, length))
    kernel = kernel / kernel.sum()

    def change(frame: int) -> Picture:
        drawn = cv2.filter2D(hand.frames[frame], -1, kernel).astype(np.float64)
        inside = hull(hand, frame, 0) > 0
        mean = drawn[inside].mean(axis=0) if inside.any() else drawn.mean((0, 1))
        return _blend(hand, frame, (mean + contrast * (drawn - mean)).astype(np.uint8))

    return change


CORRUPTIONS: Final[dict[str, Callable[[Hand], Callable[[int], Picture]]]] = {
    "blur": _blur,
    "transient_blur": _transient_blur,
    "warp": _warp,
    "finger_erased": _finger_erased,
    "finger_added": _finger_added,
    "fingers_fused": _fingers_fused,
    "missing": _missing,
    "duplicated": _duplicated,
    "swapped": _swapped,
    "wrong_gesture": _wrong_gesture,
    "flicker": _flicker,
    "smear": _smear,
}
FINGER_FAULTS: Final = ("finger_erased", "finger_added", "fingers_fused")


def nuisance(frames: np.ndarray, seed: int) -> np.ndarray:
    """Add the differences between a driving video and a faultless animation of it: a decoder's softness, colours, a
    slow shift of about half a percent of the picture, grain. Frames are uint8 ``[T, H, W, 3]``."""
    rng = np.random.default_rng([seed, 77])
    count, height, width = frames.shape[:3]
    soft = rng.uniform(0.3, 0.9) * max(1.0, height / 512)
    gain, lift = rng.uniform(0.93, 1.07, 3), rng.uniform(-6, 6, 3)
    path = np.cumsum(rng.normal(0, 0.0004, (count, 2)), axis=0) + rng.uniform(-0.003, 0.003, 2)
    changed = []
    for picture, shift in zip(frames, path * height, strict=True):
        move = np.column_stack([np.eye(2), shift])
        moved = cv2.warpAffine(picture, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        drawn = cv2.GaussianBlur(moved, (0, 0), soft) * gain + lift + rng.normal(0, 1.5, picture.shape)
        changed.append(np.clip(drawn, 0, 255).astype(np.uint8))
    return np.stack(changed)


def hull(hand: Hand, frame: int, margin: float) -> Picture:
    mask = np.zeros(hand.frames.shape[1:3], np.uint8)
    points = hand.points[frame]
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points).astype(np.int32)), 255)
    return _wider(mask, (FINGER_WIDTH / 2 + margin) * hand.size)


def _blend(hand: Hand, frame: int, changed: Picture) -> Picture:
    """Put ``changed`` over the hand and keep the picture elsewhere."""
    return mixed(hand.frames[frame], changed, soft(hull(hand, frame, 0.1), 0.05 * hand.size))


def mixed(picture: Picture, changed: np.ndarray, share: np.ndarray) -> Picture:
    return (picture + share[..., None] * (changed.astype(np.float32) - picture)).round().clip(0, 255).astype(np.uint8)


def soft(mask: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), max(sigma, 0.6))


def _wider(mask: Picture, by: float) -> Picture:
    side = max(1, 2 * round(by) + 1)
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))).astype(np.uint8)


def stroke(mask: Picture, line: Points, width: float) -> None:
    cv2.polylines(mask, [np.round(line).astype(np.int32)], False, 255, max(1, round(width)), cv2.LINE_AA)


def painted_over(picture: Picture, mask: Picture) -> Picture:
    """Fill the masked region from its surroundings (Telea, "An image inpainting technique", 2004)."""
    found = np.argwhere(mask > 0)
    if not len(found):
        return picture
    (top, left), (bottom, right) = np.maximum(found.min(0) - 8, 0), found.max(0) + 9
    result = picture.copy()
    view = (slice(top, bottom), slice(left, right))
    result[view] = cv2.inpaint(
        np.ascontiguousarray(picture[view]), (mask[view] > 0).astype(np.uint8), 3, cv2.INPAINT_TELEA
    )
    return result


def grid(picture: Picture) -> np.ndarray:
    rows, columns = np.indices(picture.shape[:2], dtype=np.float32)
    return np.stack([columns, rows], axis=-1)


def resample(picture: Picture, positions: np.ndarray, border: int = cv2.BORDER_REPLICATE) -> Picture:
    x, y = np.moveaxis(positions.astype(np.float32), -1, 0)
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=border), np.uint8)


def _upright(points: Points) -> Points:
    """Remove position, direction and size from the points."""
    away = points - points[0]
    x, y = away[9]
    return away @ np.array([[x, -y], [y, x]]) / max(float(x * x + y * y), 1e-6)
