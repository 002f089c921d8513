"""Skeleton drawings: the control video of an animation model, and overlays for people.

They follow the public pose preparation of VACE (vace/annotators/pose.py): limbs are tapered ellipses at 0.6 of their
brightness, joints are discs, each bone of a hand has its hue, face dots are white, and there are no feet. That code
exchanges red and blue of the OpenPose palette, so the models know the exchanged colours.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from ipa_core import keypoints as kp
from ipa_core.config import DrawingConfig
from ipa_core.records import PoseSequence

Color = tuple[int, int, int]

CANVAS_SIDE: Final = 1024
"""Short side of the canvas to which the line widths below refer."""


@dataclass(frozen=True)
class Width:
    """Half the width of a line, or the radius of a dot. canvas: on the model's canvas. least: at least so many of the
    picture's pixels, so that drawings of 96 pixels stay legible."""

    canvas: float
    least: float


STICK, JOINT = Width(4.0, 1.2), Width(4.0, 1.2)
BONE, HAND_DOT, FACE_DOT = Width(1.0, 0.4), Width(4.0, 0.6), Width(3.0, 0.6)
LIMB_BRIGHTNESS: Final = 0.6
SHIFT: Final = 4
"""Fractional bits of the coordinates for cv2."""

NECK: Final = 17
JOINTS: Final = (0, NECK, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""OpenPose's 18 joints, as indices of COCO's 17 followed by the neck."""
LIMBS: Final = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""Pairs of positions in JOINTS."""
PALETTE: Final[tuple[Color, ...]] = (
    (0, 0, 255), (0, 85, 255), (0, 170, 255), (0, 255, 255), (0, 255, 170), (0, 255, 85), (0, 255, 0), (85, 255, 0),
    (170, 255, 0), (255, 255, 0), (255, 170, 0), (255, 85, 0), (255, 0, 0), (255, 0, 85), (255, 0, 170), (255, 0, 255),
    (170, 0, 255), (85, 0, 255),
)  # fmt: skip
"""RGB of the joints and, in the same order, of the limbs."""
RED: Final[Color] = (255, 0, 0)
WHITE: Final[Color] = (255, 255, 255)
KNUCKLES: Final = tuple(finger[0] for finger in kp.FINGERS)


def draw_sequence(pose: PoseSequence, drawing: DrawingConfig) -> np.ndarray:
    """Draw the control video of a pose sequence: uint8 RGB ``[T, H, W, 3]`` on black; see :func:`draw_pose`."""
    if not len(pose):
        return np.zeros((0, pose.height, pose.width, 3), np.uint8)
    frames = zip(pose.keypoints, pose.confidence, strict=True)
    return np.stack([draw_pose(points, sure, pose.height, pose.width, drawing) for points, sure in frames])


def draw_pose(
    keypoints: np.ndarray,
    confidence: np.ndarray,
    height: int,
    width: int,
    drawing: DrawingConfig,
    *,
    threshold: float = 0.3,
) -> np.ndarray:
    """Draw ``keypoints [133, 2]`` (pixels) with ``confidence [133]`` on black: uint8 RGB ``[height, width, 3]``. Points
    with a confidence below ``threshold`` and the lines that need them are left out. Line widths follow the picture's
    short side. The same input gives the same bytes."""
    pen = _Pen(height, width)
    joints, seen = openpose_joints(keypoints, confidence >= threshold)
    for (start, end), color in zip(LIMBS, PALETTE, strict=False):
        if seen[start] and seen[end]:
            pen.stick(joints[start], joints[end], color)
    pen.dim(LIMB_BRIGHTNESS)
    for joint in np.flatnonzero(seen):
        pen.dot(joints[joint], JOINT, PALETTE[joint])
    for hand in kp.HANDS.values():
        _draw_hand(pen, keypoints[hand], confidence[hand] >= threshold, drawing.hand_detail)
    if drawing.face:
        for point in keypoints[kp.FACE][confidence[kp.FACE] >= threshold]:
            pen.dot(point, FACE_DOT, WHITE)
    return pen.picture()


def draw_overlay(picture: np.ndarray, keypoints: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Draw body and hand points with a confidence from 0.3 up over a copy of an RGB picture ``[H, W, 3]``."""
    height, width = picture.shape[:2]
    skeleton = draw_pose(keypoints, confidence, height, width, DrawingConfig(face=False))
    opacity = skeleton.max(axis=2, keepdims=True) / 255
    return np.rint(picture * (1 - opacity) + skeleton).clip(0, 255).astype(np.uint8)


def openpose_joints(keypoints: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of JOINTS ``[18, 2]`` and whether each is seen ``[18]``."""
    points, known = [*keypoints[kp.BODY]], [*seen[kp.BODY]]
    points.append(keypoints[[kp.LEFT_SHOULDER, kp.RIGHT_SHOULDER]].mean(0))
    known.append(seen[kp.LEFT_SHOULDER] and seen[kp.RIGHT_SHOULDER])
    order = list(JOINTS)
    return np.array(points)[order], np.array(known)[order]


def _draw_hand(pen: _Pen, points: np.ndarray, seen: np.ndarray, detail: str) -> None:
    if detail == "none":
        return
    dots = range(21) if detail == "full" else (0, *KNUCKLES)
    for number, (start, end) in enumerate(kp.HAND_BONES):
        if end in dots and seen[start] and seen[end]:
            red, green, blue = colorsys.hsv_to_rgb(number / len(kp.HAND_BONES), 1.0, 1.0)
            pen.bone(points[start], points[end], (int(blue * 255), int(green * 255), int(red * 255)))
    for dot in dots:
        if seen[dot]:
            pen.dot(points[dot], HAND_DOT, RED)


class _Pen:
    """Draws enlarged on black and averages down: smooth lines at sub-pixel positions, the same on every machine."""

    def __init__(self, height: int, width: int) -> None:
        short = min(height, width)
        self.size = (width, height)
        self.per_canvas_pixel = short / CANVAS_SIDE
        self.enlarged = max(2, round(512 / short))
        self.canvas = np.zeros((height * self.enlarged, width * self.enlarged, 3), np.uint8)

    def stick(self, start: np.ndarray, end: np.ndarray, color: Color) -> None:
        """Draw an ellipse from start to end."""
        centre, half = (start + end) / 2, (end - start) / 2
        across = self._across(half, STICK)
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)[:, None]
        self._fill(centre + half * np.cos(angle) + across * np.sin(angle), color)

    def bone(self, start: np.ndarray, end: np.ndarray, color: Color) -> None:
        """Draw a line of constant width."""
        across = self._across(end - start, BONE)
        self._fill(np.stack([start + across, end + across, end - across, start - across]), color)

    def dot(self, centre: np.ndarray, width: Width, color: Color) -> None:
        x, y = self._fixed(centre * self.enlarged - 0.5)
        radius = int(self._fixed(np.array(self._pixels(width) * self.enlarged)))
        cv2.circle(self.canvas, (int(x), int(y)), radius, color, cv2.FILLED, cv2.LINE_8, SHIFT)

    def dim(self, factor: float) -> None:
        self.canvas = (self.canvas * factor).astype(np.uint8)

    def picture(self) -> np.ndarray:
        return cv2.resize(self.canvas, self.size, interpolation=cv2.INTER_AREA)

    def _pixels(self, width: Width) -> float:
        return max(width.canvas * self.per_canvas_pixel, width.least)

    def _across(self, along: np.ndarray, width: Width) -> np.ndarray:
        """Return half the width across ``along``, in pixels of the picture. It is zero if ``along`` is zero."""
        length = float(np.hypot(*along))
        return np.array([-along[1], along[0]]) / length * self._pixels(width) if length > 0 else np.zeros(2)

    def _fill(self, outline: np.ndarray, color: Color) -> None:
        cv2.fillConvexPoly(self.canvas, self._fixed(outline * self.enlarged - 0.5), color, cv2.LINE_8, SHIFT)

    @staticmethod
    def _fixed(values: np.ndarray) -> np.ndarray:
        """Convert to cv2's fixed-point numbers (0 is a pixel's centre). Numbers far outside the picture are clipped."""
        return np.rint(values * (1 << SHIFT)).clip(-(1 << 24), 1 << 24).astype(np.int32)
