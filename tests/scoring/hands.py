"""Small exact material for the tests of scoring: open hands, pose sequences and videos that show them."""

from __future__ import annotations

import cv2
import numpy as np

from ipa_core.keypoints import COUNT, FINGERS, HAND_BONES, HANDS
from ipa_core.records import PoseSequence, Side

WIDTH, HEIGHT, FRAMES = 160, 120, 5
CENTRES: dict[Side, tuple[float, float]] = {"left": (110.0, 60.0), "right": (50.0, 60.0)}


def open_hand(size: float, centre: tuple[float, float]) -> np.ndarray:
    """21 points of a flat open hand, ``[21, 2]``; the longer side of their box is ``size`` pixels."""
    points = np.zeros((21, 2))
    for finger, indices in enumerate(FINGERS):
        angle = np.radians(-150 + 30 * finger)
        for joint, index in enumerate(indices):
            points[index] = (0.4 + 0.2 * joint) * np.array([np.cos(angle), np.sin(angle)])
    points -= (points.max(axis=0) + points.min(axis=0)) / 2
    return points * size / np.ptp(points, axis=0).max() + centre


def pose_of(hands: dict[Side, np.ndarray], confidence: float = 0.9) -> PoseSequence:
    """A pose with these hands ``[T, 21, 2]``, each point with the same confidence; nothing else is found."""
    frames = len(next(iter(hands.values())))
    keypoints = np.zeros((frames, COUNT, 2), np.float32)
    confidences = np.zeros((frames, COUNT), np.float32)
    for side, points in hands.items():
        keypoints[:, HANDS[side]] = points
        confidences[:, HANDS[side]] = confidence
    return PoseSequence(keypoints, confidences, WIDTH, HEIGHT, "presence", "stand-in")


def moving_hands(size: float = 40.0, frames: int = FRAMES) -> dict[Side, np.ndarray]:
    """Both hands, drifting to the right by one pixel a frame."""
    drift = np.arange(frames)[:, None, None] * np.array([1.0, 0.0])
    return {side: open_hand(size, centre)[None] + drift for side, centre in CENTRES.items()}


def video_of(hands: dict[Side, np.ndarray]) -> np.ndarray:
    """uint8 ``[T, H, W, 3]``: the hands' bones on grey."""
    video = np.full((len(next(iter(hands.values()))), HEIGHT, WIDTH, 3), 90, np.uint8)
    for points in hands.values():
        for picture, hand in zip(video, points, strict=True):
            for start, end in HAND_BONES:
                ends = [tuple(round(value) for value in hand[index]) for index in (start, end)]
                cv2.line(picture, ends[0], ends[1], (230, 190, 160), 2)
    return video


class KnownHands:
    """An extractor that always finds the pose it was given."""

    def __init__(self, pose: PoseSequence) -> None:
        self._pose = pose

    def extract_hands(self, frames: np.ndarray, guide: PoseSequence) -> PoseSequence:
        return self._pose
