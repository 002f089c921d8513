"""The control of a training sample: its skeleton as a detector would have seen it, drawn."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ipa_core import keypoints as kp
from ipa_core.config import DrawingConfig
from ipa_core.drawing import draw_pose
from ipa_core.records import PoseSequence

HandDetail = Literal["full", "palm", "none"]


def draw_control(keypoints: np.ndarray, confidence: np.ndarray, size: int, hand_detail: HandDetail) -> np.ndarray:
    """Skeletons of one clip, keypoints ``[T, 133, 2]`` and confidence ``[T, 133]`` -> uint8 ``[T, size, size, 3]``."""
    drawing = DrawingConfig(hand_detail=hand_detail, face=False)
    return np.stack(
        [draw_pose(points, sure, size, size, drawing) for points, sure in zip(keypoints, confidence, strict=True)]
    )


def as_detected(
    keypoints: np.ndarray, confidence: np.ndarray, rng: np.random.Generator, jitter: float
) -> tuple[np.ndarray, np.ndarray]:
    """Exact points of one clip made as uncertain as a detector's. Hand points move by ``jitter`` hand sizes, half of it
    the same way in all frames, body points by 1/200 of the body; points outside the picture are guessed, or not."""
    frames = len(keypoints)
    moved, sure = keypoints.copy(), confidence.copy()
    for part in kp.HANDS.values():
        size = np.ptp(keypoints[:, part], axis=1).max(axis=1).mean()
        noise = rng.normal(0, 0.7, (1, 21, 2)) + rng.normal(0, 0.7, (frames, 21, 2))
        moved[:, part] += (jitter * size * noise).astype(np.float32)
    extent = np.ptp(keypoints[:, kp.BODY].reshape(-1, 2), axis=0).max()
    moved[:, kp.BODY] += rng.normal(0, 0.005 * extent, (frames, 17, 2)).astype(np.float32)
    outside = (confidence[:, kp.BODY] == 0).any(axis=0)
    guessed = outside & (rng.uniform(size=17) < 0.5)
    sure[:, kp.BODY][:, guessed] = 0.5
    return moved, sure


def pose_sequence(keypoints: np.ndarray, confidence: np.ndarray, size: int) -> PoseSequence:
    """The exact pose of a rendered clip as the record that the other stages read."""
    seen = np.where(confidence[..., None] > 0, keypoints, 0.0)
    return PoseSequence(seen.astype(np.float32), confidence, size, size, "model", "rendered")
