"""A rendered set that needs no renderer: blobs for people, for the parts that only want pictures and points."""

from __future__ import annotations

import numpy as np
import pytest

from ipa_core import keypoints as kp
from ipa_core.people.dataset import RenderedSet


def make_rendered_set(clips: int, *, size: int = 48, frames: int = 5, seed: int = 0) -> RenderedSet:
    """Smooth coloured clips with a bright square for each hand, and hand points inside it."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:size, 0:size] / size
    pictures = np.zeros((clips, frames, size, size, 3), np.uint8)
    mask = np.zeros((clips, frames, size, size), bool)
    points = np.zeros((clips, frames, kp.COUNT, 2), np.float32)
    points[:, :, kp.BODY] = rng.uniform(0, size, (clips, 1, 17, 2))
    for clip in range(clips):
        slope = rng.uniform(-80, 80, (2, 3))
        ground = 128 + rows[..., None] * slope[0] + columns[..., None] * slope[1]
        for frame in range(frames):
            pictures[clip, frame] = ground
            for part in kp.HANDS.values():
                top, left = rng.integers(0, size - 16, 2)
                pictures[clip, frame, top : top + 16, left : left + 16] = rng.integers(120, 250, (16, 1, 3))
                mask[clip, frame, top : top + 16, left : left + 16] = True
                points[clip, frame, part] = rng.uniform([left, top], [left + 16, top + 16], (21, 2))
    confidence = np.zeros((clips, frames, kp.COUNT), np.float32)
    confidence[:, :, kp.BODY] = 1
    for part in kp.HANDS.values():
        confidence[:, :, part] = 1
    return RenderedSet(pictures, points, confidence, mask, np.arange(clips) % 6)


@pytest.fixture(scope="session")
def rendered_set() -> RenderedSet:
    return make_rendered_set(12)
