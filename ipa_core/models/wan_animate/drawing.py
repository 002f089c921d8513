"""Wan-Animate's own drawing of a pose, and its crops of the driving face.

They follow the public preprocessing of Wan 2.2 Animate (wan/modules/animate/preprocess): the body has OpenPose's 18
points and one more for each foot, limbs are ellipses at 0.6 of their brightness, there are no face points, and lines
are thinner than VACE's. The face goes in as pictures.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from ipa_core import keypoints as kp
from ipa_core.config import DrawingConfig
from ipa_core.drawing import KNUCKLES, Color, openpose_joints
from ipa_core.records import PoseSequence

THRESHOLD: Final = 0.5
"""Points with a lower confidence are not drawn."""
FEET: Final = ((kp.LEFT_BIG_TOE, kp.LEFT_SMALL_TOE), (kp.RIGHT_BIG_TOE, kp.RIGHT_SMALL_TOE))
"""Points 18 and 19 of the body: each is the middle of two toes."""
LIMBS: Final = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17), (13, 18), (10, 19),
)  # fmt: skip
"""Pairs of body points."""
PALETTE: Final[tuple[Color, ...]] = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255),
    (255, 0, 170), (255, 0, 85), (200, 200, 0), (100, 100, 0),
)  # fmt: skip
"""RGB of the body points and, in the same order, of the limbs."""
HAND_DOT: Final[Color] = (0, 0, 255)
LIMB_BRIGHTNESS: Final = 0.6
FACE_SCALE: Final = 1.3
"""Area of the face crop, in areas of the face's points."""


def draw_body(pose: PoseSequence, drawing: DrawingConfig) -> np.ndarray:
    """Draw the pose video: uint8 RGB ``[T, H, W, 3]`` on black. ``drawing.face`` plays no part."""
    pictures = np.zeros((len(pose), pose.height, pose.width, 3), np.uint8)
    for picture, points, sure in zip(pictures, pose.keypoints, pose.confidence, strict=True):
        _draw(picture, points, sure, drawing.hand_detail)
    return pictures


def body_points(keypoints: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the body's points ``[20, 2]`` and whether each is seen ``[20]``, of ``keypoints [133, 2]``."""
    joints, known = openpose_joints(keypoints, seen)
    feet = [keypoints[list(toes)].mean(0) for toes in FEET]
    return np.array([*joints, *feet]), np.array([*known, *(seen[list(toes)].all() for toes in FEET)])


def _draw(picture: np.ndarray, keypoints: np.ndarray, confidence: np.ndarray, hand_detail: str) -> None:
    points, seen = body_points(keypoints, confidence >= THRESHOLD)
    width = max(min(picture.shape[:2]) // 200 - 1, 1)
    for (start, end), color in zip(LIMBS, PALETTE, strict=False):
        if seen[start] and seen[end]:
            _limb(picture, points[start], points[end], width, color)
    for point, color in zip(points[seen], np.array(PALETTE)[seen].tolist(), strict=True):
        cv2.circle(picture, _pixel(point), width, color, cv2.FILLED)
    for hand in kp.HANDS.values():
        _draw_hand(picture, keypoints[hand], confidence[hand] >= THRESHOLD, max(width // 2, 1), hand_detail)


def _limb(picture: np.ndarray, start: np.ndarray, end: np.ndarray, width: int, color: Color) -> None:
    along = end - start
    angle = int(math.degrees(math.atan2(along[1], along[0])))
    axes = int(np.hypot(*along) / 2), width
    outline = np.array(cv2.ellipse2Poly(_pixel((start + end) / 2), axes, angle, 0, 360, 1))
    cv2.fillConvexPoly(picture, outline, [int(LIMB_BRIGHTNESS * channel) for channel in color])


def _draw_hand(picture: np.ndarray, points: np.ndarray, seen: np.ndarray, width: int, detail: str) -> None:
    if detail == "none":
        return
    dots = range(21) if detail == "full" else (0, *KNUCKLES)
    for number, (start, end) in enumerate(kp.HAND_BONES):
        if end in dots and seen[start] and seen[end]:
            hue = colorsys.hsv_to_rgb(number / len(kp.HAND_BONES), 1.0, 1.0)
            cv2.line(picture, _pixel(points[start]), _pixel(points[end]), [255 * part for part in hue], width)
    for dot in dots:
        if seen[dot]:
            cv2.circle(picture, _pixel(points[dot]), width, HAND_DOT, cv2.FILLED)


def _pixel(point: np.ndarray) -> Sequence[int]:
    """Return the pixel of a point; numbers far outside the picture are clipped."""
    x, y = np.clip(point, -(1 << 14), 1 << 14)
    return int(x), int(y)


def crop_faces(frames: np.ndarray, pose: PoseSequence, size: int) -> np.ndarray:
    """Return the faces of ``frames`` uint8 ``[T, H, W, 3]``, each resized to ``[size, size, 3]``.

    Pose backends without face points (MediaPipe) have nose, eyes and ears, from which the box is estimated. A frame
    without a face has the box of the nearest frame with one. Without any face all is black, as in the model's pass
    without guidance.
    """
    frames_seen = zip(pose.keypoints, pose.confidence >= THRESHOLD, strict=True)
    boxes = [_face_box(points, seen, pose.height, pose.width) for points, seen in frames_seen]
    known = [number for number, box in enumerate(boxes) if box is not None]
    faces = np.zeros((len(frames), size, size, 3), np.uint8)
    for number in range(len(frames)) if known else ():
        box = boxes[min(known, key=lambda other: abs(other - number))]
        assert box is not None
        left, right, top, bottom = box
        faces[number] = cv2.resize(frames[number][top:bottom, left:right], (size, size))
    return faces


def _face_box(points: np.ndarray, seen: np.ndarray, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Return left, right, top and bottom: the face's box, of a larger area, three quarters of it upwards."""
    face = points[kp.FACE][seen[kp.FACE]]
    corners = (face.min(0), face.max(0)) if len(face) > 1 else _face_of_head(points, seen)
    if corners is None:
        return None
    (left, top), (right, bottom) = corners
    grown = math.sqrt(FACE_SCALE) - 1
    aside, below = grown * (right - left) / 2, grown * (bottom - top) / 4
    box = (
        *(int(max(left - aside, 0)), int(min(right + aside, width))),
        *(int(max(top - 3 * below, 0)), int(min(bottom + below, height))),
    )
    return box if box[1] > box[0] and box[3] > box[2] else None


def _face_of_head(points: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Estimate the upper left and lower right corner of the face's points from eyes and ears.

    In a frontal face the points reach from ear to ear, which is 2.3 times the distance of the eyes, from 0.35 of that
    width above the eyes (brows) to 0.8 below them (chin).
    """
    eyes, ears = [kp.LEFT_EYE, kp.RIGHT_EYE], [kp.LEFT_EAR, kp.RIGHT_EAR]
    if not seen[eyes].all():
        return None
    size = 2.3 * math.dist(*points[eyes])
    if seen[ears].all():
        size = max(size, math.dist(*points[ears]))
    middle = points[eyes].mean(0)
    return middle - size * np.array([0.5, 0.35]), middle + size * np.array([0.5, 0.8])
