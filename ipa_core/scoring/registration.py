"""Lay the driving hand upon the candidate's hand by their pictures, more precisely than by a detector's points.

A detector finds the same hand some percent of its size elsewhere from frame to frame, and in a compressed or rescaled
picture elsewhere again. So the similarity by points is smoothed over time, and then shifted and turned until both
pictures agree best (Evangelidis and Psarakis, "Parametric image alignment using enhanced correlation coefficient
maximization", 2008). Brightness and contrast don't change that agreement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from ipa_core.keypoints import FINGERS
from ipa_core.scoring.aligned import Similarity, sway, where_to_look
from ipa_core.scoring.crops import SCALE, SIZE, cut, moved, placed
from ipa_core.scoring.measures import Floats

WINDOW: Final = 5
"""Frames over which the similarity by points is smoothed."""
_BLURS: Final = (13, 7)
"""Sides of the blurs, in pixels of the crop, one after the other: the wider one finds a hand that is farther off."""
_LEAST: Final = 0.6
"""Least correlation of the two pictures. Below it they hardly show the same hand, and the points decide."""
SURE: Final = 0.9
"""From this correlation on both pictures show a hand, and no better place is looked for."""
CAMERA: Final = 0.05
"""How much nearer or farther a camera may be, as a share, and no hand sways."""
_FARTHEST, _MOST = 0.3, np.radians(25)
"""Largest shift (hand sizes) and turn. What is farther off is another thing."""
_RESCALED: Final = 1.25
"""Largest change of scale by the pictures."""
_USUAL: Final = (0.03, 1.7)
"""Sway of a good hand by a detector's points: hand sizes, and pixels over the hand's size."""
_STEPS: Final = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)


@dataclass(frozen=True, eq=False)
class Registration:
    """Of a hand in all frames. ``agreed [T]``: the correlation of both pictures, 0 where they don't agree; ``sway``:
    see ``aligned.sway``."""

    place: Similarity
    agreed: Floats
    sway: Floats


def registered(
    video: np.ndarray, driving_video: np.ndarray | None, driving: Floats, fit: Similarity, size: Floats
) -> Registration:
    """Lay the driving hand upon the candidate's.

    Videos are uint8 RGB ``[T, H, W, 3]``, None where both show different people; ``driving``: the driving hand's points
    ``[T, 21, 2]``, NaN where it is no yardstick; ``fit``: the similarity by points; ``size``: of the driving hand,
    pixels ``[T]``. Where the pictures don't agree, the smoothed points say the place, and the points the sway, less a
    detector's usual error.
    """
    smooth = fit.smoothed(driving, WINDOW)
    turn, start, end = (np.array(part) for part in (smooth.turn, smooth.start, smooth.end))
    agreed = np.zeros(len(video))
    for frame in np.flatnonzero(np.isfinite(driving).all(axis=(1, 2))).tolist():
        if driving_video is None:
            break
        # Most candidates have their hands where the pose says, and a hand that jumps is far from its usual place.
        here = driving[frame]
        starts = [Similarity.unmoved(here[None]), smooth.at(frame), fit.at(frame)]
        correlation, found = by_picture(video[frame], driving_video[frame], here, starts, size[frame])
        if correlation > 0:
            agreed[frame] = correlation
            turn[frame], start[frame], end[frame] = (part[0] for part in (found.turn, found.start, found.end))
    place = Similarity(turn, start, end)
    three = agreed > 0
    three[1:-1] &= three[:-2] & three[2:]
    by_points = np.maximum(0, sway(fit, size, CAMERA) - _USUAL[0] - _USUAL[1] / size)
    return Registration(place, agreed, np.where(three, sway(place, size, CAMERA), by_points))


def by_picture(
    picture: np.ndarray, driving_picture: np.ndarray, points: Floats, starts: Sequence[Similarity], size: float
) -> tuple[float, Similarity]:
    """Lay the driving hand upon the candidate's in one frame, from the best of ``starts``. Pictures are uint8 RGB
    ``[H, W, 3]``; points: the driving hand's ``[21, 2]``; size: its size in pixels. Return the correlation and the
    similarity; 0 and the first of ``starts`` where the pictures don't agree."""
    agreed, best = 0.0, starts[0]
    for first in starts:
        if agreed <= SURE:
            also, place = _refined(picture, driving_picture, points, first, size)
            if also > max(agreed, _LEAST):
                agreed, best = also, place
    return agreed, best


def _refined(
    picture: np.ndarray, driving_picture: np.ndarray, points: Floats, first: Similarity, size: float
) -> tuple[float, Similarity]:
    """Return the correlation of both pictures, 0 where the search went astray, and the similarity."""
    places, scale = where_to_look(points[None], first, np.array([size]))
    ours, theirs = placed(places[0], size * scale[0]), placed(points, size)
    seen, goal = _grey(cut(picture, ours)), _grey(cut(driving_picture, theirs))
    mask = _mask(moved(points, theirs))
    warp: np.ndarray = np.eye(2, 3, dtype=np.float32)
    agreed = 0.0
    for blur in _BLURS:
        try:
            agreed, warp = cv2.findTransformECC(goal, seen, warp, cv2.MOTION_EUCLIDEAN, _STEPS, mask, blur)
        except cv2.error:  # The pictures don't agree at all.
            return 0.0, first
    agreed, warp = _rescaled(goal, seen, mask, agreed, warp)
    about = warp.astype(np.float64)
    # cv2 counts from the centre of the first pixel, the keypoints from its corner.
    about[:, 2] += 0.5 - about[:, :2] @ (0.5, 0.5)
    middle = np.full(2, SIZE / 2)
    far = np.hypot(*(moved(middle[None], about)[0] - middle)) * SCALE / SIZE
    if far > _FARTHEST or abs(np.arctan2(about[1, 0], about[0, 0])) > _MOST:
        return 0.0, first
    start = points.mean(axis=0)
    end = np.linalg.solve(ours[:, :2], moved(moved(start[None], theirs), about)[0] - ours[:, 2])
    turn = np.linalg.solve(ours[:, :2], about[:, :2] @ theirs[:, :2])[:, 0]
    return agreed, Similarity(*(np.array([complex(*one)]) for one in (turn, start, end)))


def _rescaled(
    goal: np.ndarray, seen: np.ndarray, mask: np.ndarray, agreed: float, warp: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return correlation and warp with another scale, if both pictures then agree better. The search is for any affine
    warp; its shear and its stretch would be another hand, so they don't count."""
    try:
        _, affine = cv2.findTransformECC(goal, seen, warp.copy(), cv2.MOTION_AFFINE, _STEPS, mask, _BLURS[-1])
    except cv2.error:
        return agreed, warp
    turn = np.array([[affine[0, 0] + affine[1, 1], affine[0, 1] - affine[1, 0]]]) / 2
    turn = np.vstack([turn, [[-turn[0, 1], turn[0, 0]]]])
    if not 1 / _RESCALED < np.hypot(*turn[0]) < _RESCALED:
        return agreed, warp
    middle = np.full(2, SIZE / 2 - 0.5)
    rescaled = np.column_stack([turn, affine[:, :2] @ middle + affine[:, 2] - turn @ middle]).astype(np.float32)
    side = (_BLURS[-1],) * 2
    laid = cv2.warpAffine(seen, rescaled, (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    also = cv2.computeECC(cv2.GaussianBlur(goal, side, 0), cv2.GaussianBlur(laid, side, 0), mask)
    return (also, rescaled) if also > agreed else (agreed, warp)


def _grey(picture: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))


def _mask(points: Floats) -> np.ndarray:
    """Return the hand and some of its surroundings, uint8 ``[SIZE, SIZE]``."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    places = np.round(np.clip(points, -SIZE, 2 * SIZE)).astype(np.int32)
    for finger in FINGERS:
        cv2.polylines(mask, [places[[0, *finger]]], False, 255, 24)
    return mask
