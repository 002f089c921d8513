"""Marks the hands in the pictures and on the latent grid."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ipa_core import keypoints as kp
from ipa_core.records import PoseSequence

LEAST_POINTS = 3
"""A hand with fewer known points has no reliable position."""


def hand_mask(pose: PoseSequence, *, margin: float = 0.25, threshold: float = 0.3) -> np.ndarray:
    """Mark the pixels of the hands: bool ``[T, H, W]``. A hand's mask is the convex hull of its points with a
    confidence of at least ``threshold``, and ``margin`` hand sizes (longer side of the points' box) around the hull. A
    hand with fewer than three such points has no mask."""
    mask = np.zeros((len(pose), pose.height, pose.width), bool)
    for frame in range(len(pose)):
        for place in kp.HANDS.values():
            points = pose.keypoints[frame, place][pose.confidence[frame, place] >= threshold].astype(np.float64)
            if len(points) >= LEAST_POINTS:
                _fill(mask[frame], points, margin * float(np.ptp(points, axis=0).max()))
    return mask


def latent_mask(
    mask: np.ndarray, latent_frames: int, latent_height: int, latent_width: int, how: Literal["max", "mean", "nearest"]
) -> np.ndarray:
    """Bring a mask of pictures ``[T, H, W]`` onto the grid of their latents: float32 ``[T', h, w]`` in [0, 1].

    A latent cell stands for H/h x W/w pixels. The first latent frame stands for the first picture, each other one for
    the next (T - 1) / (T' - 1) pictures, as in Wan's causal codec. The rule also fits a codec that encodes each picture
    alone (T' = T). ``max``: 1 where any pixel of the cell in any of its pictures is set. ``mean``: the share of these
    pixels. ``nearest``: the middle pixel of the cell in the middle one of its pictures (the later one of two). Raises
    ``ValueError`` when the sizes don't divide.
    """
    frames, height, width = mask.shape
    if height % latent_height or width % latent_width:
        raise ValueError(f"{height} x {width} pixels don't divide into {latent_height} x {latent_width} latent cells")
    groups = latent_frames - 1
    if not (frames == latent_frames == 1 or (groups > 0 and frames > 1 and (frames - 1) % groups == 0)):
        raise ValueError(
            f"{frames} pictures don't divide into {latent_frames} latent frames: 1 + a multiple of the rest"
        )
    rows, columns = height // latent_height, width // latent_width
    cells = mask.astype(np.float32).reshape(frames, latent_height, rows, latent_width, columns)
    if how == "nearest":
        still = cells[:, :, rows // 2, :, columns // 2]
    else:
        still = cells.max((2, 4)) if how == "max" else cells.mean((2, 4))
    if not groups:
        return still
    later = still[1:].reshape(groups, (frames - 1) // groups, latent_height, latent_width)
    if how == "nearest":
        merged = later[:, later.shape[1] // 2]
    else:
        merged = later.max(1) if how == "max" else later.mean(1, dtype=np.float32)
    return np.concatenate([still[:1], merged])


def _fill(mask: np.ndarray, points: np.ndarray, radius: float) -> None:
    """Set the pixels of ``mask [H, W]`` whose centres lie within ``radius`` of the convex hull of ``points [N, 2]``."""
    height, width = mask.shape
    left, top = np.floor(points.min(0) - radius).clip(0, (width, height)).astype(int)
    right, bottom = np.ceil(points.max(0) + radius).clip(0, (width, height)).astype(int)
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    pixels = np.stack([x, y], -1)
    inside, near = np.ones(x.shape, bool), np.zeros(x.shape, bool)
    outline = _convex_hull(points)
    for start, end in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        along, there = end - start, pixels - start
        inside &= along[0] * there[..., 1] >= along[1] * there[..., 0]
        share = np.clip(there @ along / max(float(along @ along), 1e-12), 0, 1)
        near |= ((there - share[..., None] * along) ** 2).sum(-1) <= radius**2
    if len(outline) < 3:  # All points lie on one line, and a line has no inside.
        inside[:] = False
    mask[top:bottom, left:right] |= inside | near


def _convex_hull(points: np.ndarray) -> np.ndarray:
    """Return the corners in the order for which ``along x there >= 0`` holds inside (Andrew's monotone chain)."""
    ordered = np.unique(points, axis=0)
    if len(ordered) < 3:
        return ordered
    halves = []
    for walk in (ordered, ordered[::-1]):
        chain: list[np.ndarray] = []
        for point in walk:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        halves += chain[:-1]
    return np.array(halves)


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
