"""Draws the control of a training sample: its skeleton as a detector would have seen it."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from ipa_core import keypoints as kp
from ipa_core.config import DrawingConfig
from ipa_core.drawing import draw_pose

HandDetail = Literal["full", "palm", "none"]

BODY_OFFSETS: Final = {
    kp.LEFT_EAR: (-0.02, -0.055),
    kp.RIGHT_EAR: (0.04, -0.055),
    kp.LEFT_SHOULDER: (-0.035, -0.08),
    kp.RIGHT_SHOULDER: (0.04, -0.09),
    kp.LEFT_ELBOW: (-0.02, -0.05),
    kp.RIGHT_ELBOW: (0.015, -0.07),
    kp.LEFT_WRIST: (0.0, -0.045),
    kp.RIGHT_WRIST: (0.0, -0.03),
}
"""Offsets of MediaPipe's body points from the rig's: right and down in the picture, in shoulder widths (medians over 48
held-out clips)."""
HAND_OFFSETS: Final = {0: 0.09, 1: -0.04, 2: 0.04, 5: -0.05, 9: -0.03, 13: -0.03, 17: -0.04}
"""The same for hand points: from the wrist towards the middle knuckle, in hand sizes."""


def draw_control(keypoints: np.ndarray, confidence: np.ndarray, size: int, hand_detail: HandDetail) -> np.ndarray:
    """Draw one clip's skeletons: keypoints ``[T, 133, 2]``, confidence ``[T, 133]`` -> uint8 ``[T, size, size, 3]``."""
    drawing = DrawingConfig(hand_detail=hand_detail, face=False)
    return np.stack(
        [draw_pose(points, sure, size, size, drawing) for points, sure in zip(keypoints, confidence, strict=True)]
    )


def as_detected(
    keypoints: np.ndarray, confidence: np.ndarray, rng: np.random.Generator, jitter: float
) -> tuple[np.ndarray, np.ndarray]:
    """Move the exact points of one clip, ``[T, 133, 2]`` and ``[T, 133]``, to where MediaPipe would have found them.

    Its points lie elsewhere than the joints of the skeleton (constants above), and less exactly. Hand points move by
    ``jitter`` hand sizes, points of the face by 0.8 % and others by 2 % of the shoulders' width. Half of the variance
    is the same in all frames. Elbows outside the picture get confidence 1, because MediaPipe is sure of them.
    """
    frames = len(keypoints)
    moved, sure = keypoints.copy(), confidence.copy()
    shoulders = keypoints[:, kp.LEFT_SHOULDER] - keypoints[:, kp.RIGHT_SHOULDER]
    width = np.linalg.norm(shoulders, axis=1)[:, None]
    for point, (outwards, down) in BODY_OFFSETS.items():
        moved[:, point] += width * np.array([outwards, down], np.float32)
    for part in kp.HANDS.values():
        hand = keypoints[:, part]
        size = np.ptp(hand, axis=1).max(axis=1)[:, None]
        towards_fingers = hand[:, 9] - hand[:, 0]
        towards_fingers = towards_fingers / (np.linalg.norm(towards_fingers, axis=1, keepdims=True) + 1e-6)
        for point, along in HAND_OFFSETS.items():
            moved[:, part.start + point] += along * size * towards_fingers
        noise = rng.normal(0, 0.7, (1, 21, 2)) + rng.normal(0, 0.7, (frames, 21, 2))
        moved[:, part] += (jitter * size.mean() * noise).astype(np.float32)
    spread = width.mean() * np.where(np.arange(17) <= kp.RIGHT_EAR, 0.008, 0.02)[:, None]
    noise = rng.normal(0, 0.7, (1, 17, 2)) + rng.normal(0, 0.7, (frames, 17, 2))
    moved[:, kp.BODY] += (spread * noise).astype(np.float32)
    sure[:, [kp.LEFT_ELBOW, kp.RIGHT_ELBOW]] = 1.0
    return moved, sure
