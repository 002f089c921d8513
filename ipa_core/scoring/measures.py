"""Measures on the hands of a generated video, given the hands of the driving video.

Points are ``[T, 21, 2]`` in pixels, NaN where a point was not found. A result is NaN where nothing could be measured.
All distances are divided by the driving hand's size, so they compare between videos. :func:`columns` are the measures
of version 1, which compares places in the picture; scoring.aligned maps the hands onto each other first.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipa_core.keypoints import FINGERS, HAND_BONES, HANDS
from ipa_core.records import PoseSequence, Side

Floats = NDArray[np.float64]

_FLAT = 1.0
"""A region with a lower variance of the Laplacian (grey levels squared) has no texture to compare."""


def hand_points(pose: PoseSequence, side: Side) -> Floats:
    """Return the 21 points of one hand in every frame, ``[T, 21, 2]`` pixels; NaN where the confidence is 0."""
    points = np.asarray(pose.keypoints[:, HANDS[side]], np.float64)
    return np.where(pose.confidence[:, HANDS[side], None] > 0, points, np.nan)


def found(points: Floats) -> NDArray[np.bool_]:
    """Return whether any point of the hand was found, ``[T]``."""
    return np.asarray(np.isfinite(points).any(axis=(1, 2)))


def mean_of_found(values: ArrayLike, axis: int | None = None, weights: ArrayLike | None = None) -> Floats:
    """Return the (weighted) mean of the numbers that are not NaN; NaN where there is none."""
    values = np.asarray(values, np.float64)
    weights = np.broadcast_to(1.0 if weights is None else np.asarray(weights, np.float64), values.shape)
    weights = np.where(np.isfinite(values), weights, 0.0)
    total = weights.sum(axis=axis)
    summed = (np.nan_to_num(values) * weights).sum(axis=axis)
    return np.where(total > 0, summed / np.where(total > 0, total, 1.0), np.nan)


def hand_size(points: Floats) -> Floats:
    """Return the longer side of the box around the found points, ``[T]`` pixels; NaN in frames without any.

    The field's hand benchmarks normalise by this size (Simon et al., "Hand Keypoint Detection in Single Images using
    Multiview Bootstrapping", CVPR 2017).
    """
    highest = np.where(np.isfinite(points), points, -np.inf).max(axis=1)
    lowest = np.where(np.isfinite(points), points, np.inf).min(axis=1)
    size = (highest - lowest).max(axis=1)
    return np.where(np.isfinite(size), size, np.nan)


def share_inside(points: Floats, width: int, height: int) -> Floats:
    """Return the share of the found points that lie in the picture, ``[T]`` in [0, 1]; NaN in frames without any."""
    inside = ((points >= 0) & (points <= (width, height))).all(axis=2)
    return mean_of_found(np.where(np.isfinite(points).all(axis=2), inside, np.nan), axis=1)


def pck(points: Floats, driving: Floats, radius: float) -> Floats:
    """Return the share of driving points with the candidate's point within ``radius`` hand sizes, ``[T]`` in [0, 1].

    A point that the candidate lacks is a miss. NaN in frames without a driving hand. Source (percentage of correct
    keypoints): Yang and Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts" (PAMI 2013).
    """
    distance = np.linalg.norm(points - driving, axis=2)
    hit = distance <= radius * hand_size(driving)[:, None]
    return mean_of_found(np.where(np.isfinite(driving).all(axis=2), hit, np.nan), axis=1)


def normalised_error(points: Floats, driving: Floats) -> Floats:
    """Return the mean distance of the points that both hands have over the driving hand's size, ``[T]`` >= 0."""
    return mean_of_found(np.linalg.norm(points - driving, axis=2), axis=1) / hand_size(driving)


def bone_lengths(points: Floats) -> Floats:
    """Return the lengths of the 20 finger bones in the picture, ``[T, 20]`` pixels, in the order of ``HAND_BONES``."""
    start, end = np.array(HAND_BONES).T
    return np.linalg.norm(points[:, start] - points[:, end], axis=2)


def bone_consistency(points: Floats, driving: Floats) -> Floats:
    """Return 1 - the deviation of a frame's bone lengths from the clip's, relative to a bone; ``[T]`` in [0, 1].

    A bone shortens in the picture as the hand turns, so the driving hand's length is subtracted first. A hand that is
    larger or has longer fingers throughout loses nothing. NaN everywhere with fewer than two frames to compare.
    """
    size = hand_size(driving)[:, None]
    typical = mean_of_found(bone_lengths(driving) / size)
    excess = (bone_lengths(points) - bone_lengths(driving)) / size
    measured = np.isfinite(excess).any(axis=1)
    if measured.sum() < 2:
        return np.full(len(points), np.nan)
    strayed = mean_of_found(np.abs(excess - mean_of_found(excess, axis=0)), axis=1)
    return np.clip(1 - strayed / typical, 0, 1)


def jitter(points: Floats, driving: Floats) -> Floats:
    """Return the mean length of the second time difference of ``points - driving`` over the hand size, ``[T]`` >= 0.

    The driving hand's own motion costs nothing. NaN in the first and last frame and where one of three has no hand.
    """
    result = np.full(len(points), np.nan)
    if len(points) >= 3:
        bend = np.diff(points - driving, n=2, axis=0)
        result[1:-1] = mean_of_found(np.linalg.norm(bend, axis=2), axis=1) / hand_size(driving)[1:-1]
    return result


def wrist_distance(points: Floats, driving: Floats) -> Floats:
    """Return the distance of the two hands' wrists over the hand size, ``[T]`` >= 0."""
    return np.linalg.norm(points[:, 0] - driving[:, 0], axis=1) / hand_size(driving)


def palm_agreement(points: Floats, driving: Floats) -> Floats:
    """Return whether both palms show the same side, ``[T]`` in [0, 1]; 0 where a right hand replaced a left one.

    The value is 1 - the difference of the signed areas of the palm triangles (wrist, knuckles of index and little
    finger) over the larger area, cut at 0: opposite palms have a difference of 2. A palm seen edge-on has hardly an
    area and says little, so the larger area is at least 0.02 of the squared hand size.
    """
    ours, theirs = _palm_area(points), _palm_area(driving)
    larger = np.maximum(np.maximum(np.abs(ours), np.abs(theirs)), 0.02 * hand_size(driving) ** 2)
    return np.clip(1 - np.abs(ours - theirs) / larger, 0, 1)


def _palm_area(points: Floats) -> Floats:
    index, little = points[:, 5] - points[:, 0], points[:, 17] - points[:, 0]
    return (index[:, 0] * little[:, 1] - index[:, 1] * little[:, 0]) / 2


def plausibility(points: Floats) -> Floats:
    """Return the share of the long fingers whose two outer joints don't bend against each other, ``[T]`` in [0, 1].

    Both joints are hinges that bend one way. So a finger is a flat curve without an inflection, and so is its picture
    from any side. Opposite bends count when both exceed 20 degrees, because the detector makes errors.
    """
    bends = []
    for finger in FINGERS[1:]:
        bones = np.diff(points[:, list(finger)], axis=1)
        turn = np.arctan2(
            bones[:, :-1, 0] * bones[:, 1:, 1] - bones[:, :-1, 1] * bones[:, 1:, 0],
            (bones[:, :-1] * bones[:, 1:]).sum(axis=2),
        )
        bends.append(turn)
    middle, outer = np.moveaxis(np.stack(bends, axis=1), 2, 0)
    against = (middle * outer < 0) & (np.minimum(np.abs(middle), np.abs(outer)) > np.radians(20))
    return mean_of_found(np.where(np.isfinite(middle * outer), ~against, np.nan), axis=1)


def columns(points: Floats, driving: Floats, radius: float) -> dict[str, Floats]:
    """Return the measures of records.HandMeasures, as version 1 takes them, that need points alone, each ``[T]``."""
    return {
        "pck": pck(points, driving, radius),
        "error": normalised_error(points, driving),
        "bone_consistency": bone_consistency(points, driving),
        "jitter": jitter(points, driving),
        "wrist_distance": wrist_distance(points, driving),
        "palm_agreement": palm_agreement(points, driving),
        "plausibility": plausibility(points),
    }


def relative_sharpness(video: np.ndarray, driving_video: np.ndarray, driving: Floats) -> Floats:
    """Return the candidate's variance of the Laplacian around the driving hand over the driving video's, ``[T]`` >= 0.

    Both videos are uint8 RGB ``[T, H, W, 3]``. 1 is equally sharp; NaN where no driving hand is in the picture, or the
    driving picture is flat. Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (ICPR 2000).
    """
    result = np.full(len(video), np.nan)
    for frame, points in enumerate(driving):
        region = _region(points, *video.shape[1:3])
        if region is None:
            continue
        reference = _laplacian_variance(driving_video[frame][region])
        if reference >= _FLAT:
            result[frame] = _laplacian_variance(video[frame][region]) / reference
    return result


def _region(points: Floats, height: int, width: int) -> tuple[slice, slice] | None:
    """Return rows and columns of the hand's box in the picture, a quarter of its size wider on each side."""
    known = points[np.isfinite(points).all(axis=1)]
    if not len(known):
        return None
    low, high = known.min(axis=0), known.max(axis=0)
    margin = 0.25 * (high - low).max()
    left, top = np.clip(np.floor(low - margin), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(high + margin), 0, (width, height)).astype(int)
    if right - left < 3 or bottom - top < 3:
        return None
    return slice(top, bottom), slice(left, right)


def _laplacian_variance(picture: np.ndarray) -> float:
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())
