"""Where the hands are: in pictures, from keypoints, and on a model's latent grid."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ipa_core.keypoints import HANDS
from ipa_core.records import PoseSequence


def hand_mask(pose: PoseSequence, *, margin: float = 0.25, threshold: float = 0.3) -> NDArray[np.bool_]:
    """Bool ``[T, H, W]``: the filled convex hull of each hand's points, widened by ``margin`` hand sizes.

    A hand's size is the longer side of the box around its points. Points below ``threshold`` confidence are left out; a
    hand of fewer than three points gives no mask.
    """
    masks = np.zeros((len(pose), pose.height, pose.width), np.uint8)
    for frame, mask in enumerate(masks):
        for part in HANDS.values():
            points = pose.keypoints[frame, part][pose.confidence[frame, part] >= threshold]
            if len(points) < 3:
                continue
            hull = cv2.convexHull(np.rint(points - 0.5).astype(np.int32))
            cv2.fillConvexPoly(mask, hull, 1)
            width = round(2 * margin * float(np.ptp(points, axis=0).max()))
            if width:
                cv2.polylines(mask, [hull], isClosed=True, color=1, thickness=width)
    return masks.astype(bool)


def latent_mask(
    mask: NDArray[np.bool_],
    latent_frames: int,
    latent_height: int,
    latent_width: int,
    how: Literal["max", "mean", "nearest"],
) -> NDArray[np.float32]:
    """A mask ``[T, H, W]`` on the latent grid: float32 ``[T', h, w]`` in [0, 1].

    A cell is 1 where its pixels hold any of the hand (``max``), the share of them that do (``mean``), or its centre pixel
    (``nearest``). Frames are grouped as Wan's causal codec does: the first by itself, the others by
    ``(T - 1) / (T' - 1)``; a group's cells are joined in the same way, ``nearest`` taking the group's last frame. Raises
    ``ValueError`` for sizes that don't divide.
    """
    frames, height, width = mask.shape
    group = (frames - 1) // max(1, latent_frames - 1)
    if height % latent_height or width % latent_width or (latent_frames - 1) * group != frames - 1:
        raise ValueError(f"a mask of {mask.shape} has no grid of {(latent_frames, latent_height, latent_width)}")
    rows, columns = height // latent_height, width // latent_width
    cells = mask.astype(np.float32).reshape(frames, latent_height, rows, latent_width, columns)
    if how == "nearest":
        space = cells[:, :, rows // 2, :, columns // 2]
        return np.concatenate([space[:1], space[group::group]] if latent_frames > 1 else [space[:1]])
    join = np.max if how == "max" else np.mean
    space = join(cells, axis=(2, 4))
    if latent_frames == 1:
        return space[:1]
    later = join(space[1:].reshape(latent_frames - 1, group, latent_height, latent_width), axis=1)
    return np.concatenate([space[:1], later]).astype(np.float32)
