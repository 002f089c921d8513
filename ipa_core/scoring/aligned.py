"""Measures since version 2, which compare the shapes of two hands and not their places in the picture.

A similarity (shift, rotation and scale, no reflection) maps the driving hand onto the hand that was found in the
candidate, frame by frame. Shape, bones and tremble are measured after it. Place, scale and rotation count apart,
because a hand some pixels beside the driving one is a good hand. Points are ``[T, 21, 2]`` pixels, NaN where not found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ipa_core.scoring import measures
from ipa_core.scoring.measures import Floats, mean_of_found

Complex = NDArray[np.complex128]

_LIKE = (0.6, 1.6)
"""Scales of a found hand that may be the driving hand. A hand of another size is no place to look for its fingers."""
_NEAR = 0.75
"""The same for the distance of the hands' centres, in hand sizes."""

_SILENT = np.errstate(invalid="ignore", divide="ignore")
"""NaN divided by NaN, where there is no hand, is as it should be."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """Maps the driving hand onto the found one: ``z -> turn * (z - start) + end`` with ``z = x + iy``.

    Complex ``[T]``, NaN without a hand. The rotation is that of the least squares; the scale is the ratio of the hands'
    spreads, because the least squares shrink a hand of another shape (Gower, "Generalized Procrustes Analysis", 1975).
    """

    turn: Complex
    start: Complex
    end: Complex

    @classmethod
    @_SILENT
    def between(cls, driving: Floats, points: Floats) -> Similarity:
        both = np.isfinite(driving).all(axis=2) & np.isfinite(points).all(axis=2)
        both &= (both.sum(axis=1) >= 3)[:, None]
        source, target = np.where(both, _complex(driving), np.nan), np.where(both, _complex(points), np.nan)
        start, end = _mean(source), _mean(target)
        source, target = source - start[:, None], target - end[:, None]
        product = _mean(np.conj(source) * target)
        spread, other = _mean(np.abs(source) ** 2), _mean(np.abs(target) ** 2)
        turn = product / np.abs(product) * np.sqrt(other / spread)
        return cls(np.where(np.abs(turn) > 0, turn, np.nan), start, end)

    @_SILENT
    def smoothed(self, driving: Floats, frames: int) -> Similarity:
        """Return the medians of shift, rotation and scale over ``frames`` frames about each, also in frames without a
        found hand; NaN where none of these has one. ``driving``: the driving hand's points."""
        rotation, scale = np.full(len(driving), np.nan, np.complex128), np.full(len(driving), np.nan)
        shift = np.full(len(driving), np.nan, np.complex128)
        for frame in range(len(driving)):
            about = slice(max(0, frame - frames // 2), frame + frames // 2 + 1)
            known = np.flatnonzero(np.isfinite(self.turn[about])) + about.start
            if len(known):
                size = np.abs(self.turn[known])
                rotation[frame], scale[frame] = _median(self.turn[known] / size), np.median(size)
                shift[frame] = _median(self.end[known] - self.start[known])
        start = _mean(np.where(np.isfinite(driving).all(axis=2), _complex(driving), np.nan))
        return Similarity(rotation / np.abs(rotation) * scale, start, start + shift)

    @classmethod
    def unmoved(cls, points: Floats) -> Similarity:
        """Return the similarity that leaves the points of some frames where they are."""
        middle = _mean(_complex(points))
        return cls(np.ones(len(points), np.complex128), middle, middle)

    def at(self, frame: int) -> Similarity:
        """Return the similarity of one frame."""
        here = slice(frame, frame + 1)
        return Similarity(self.turn[here], self.start[here], self.end[here])

    def onto(self, driving: Floats) -> Floats:
        """Map points of the driving hand onto the found hand."""
        return _pairs(self.turn[:, None] * (_complex(driving) - self.start[:, None]) + self.end[:, None])

    @_SILENT
    def back(self, points: Floats) -> Floats:
        """Map points of the found hand onto the driving hand."""
        return _pairs((_complex(points) - self.end[:, None]) / self.turn[:, None] + self.start[:, None])


def sway(fit: Similarity, size: Floats, camera: float = 0.0) -> Floats:
    """Return the second time difference of the hand's shift from the driving hand, in hand sizes, ``[T]`` >= 0. A hand
    that stays beside the driving one costs nothing. NaN in the first and last frame and where one of three has no hand.
    ``camera``: how much nearer or farther a camera may be; it makes a hand's way longer or shorter by that share.

    A detector's errors turn and scale a hand far more than they move its centre, so rotation and scale don't count.
    """
    result = np.full(len(size), np.nan)
    if len(size) >= 3:
        shift, way = (np.abs(np.diff(one, n=2)) for one in (fit.end - fit.start, fit.start))
        result[1:-1] = np.maximum(0, shift - camera * way) / size[1:-1]
    return result


def where_to_look(driving: Floats, fit: Similarity, size: Floats) -> tuple[Floats, Floats]:
    """Return the driving hand's points where the candidate's hand was found, ``[T, 21, 2]``, and the hand's scale
    there, ``[T]``. Without a hand of about that size nearby they are the driving hand's own points and 1, so that the
    picture shows there what stands in the place of a hand."""
    scale = np.abs(fit.turn)
    near = np.abs(fit.end - fit.start) <= _NEAR * size
    like = near & (scale >= _LIKE[0]) & (scale <= _LIKE[1])
    return np.where(like[:, None, None], fit.onto(driving), driving), np.where(like, scale, 1.0)


def columns(points: Floats, driving: Floats, radius: float) -> dict[str, Floats]:
    """Return the measures of records.HandMeasures that need points alone, each ``[T]``."""
    fit = Similarity.between(driving, points)
    size = measures.hand_size(driving)
    moved = fit.back(points)
    return {
        "pck": measures.pck(moved, driving, radius),
        "error": measures.normalised_error(moved, driving),
        "bone_consistency": measures.bone_consistency(moved, driving),
        "jitter": measures.jitter(moved, driving),
        "palm_agreement": measures.palm_agreement(moved, driving),
        "plausibility": 1 - np.maximum(0, measures.plausibility(driving) - measures.plausibility(points)),
        "place": np.abs(fit.end - fit.start) / size,
        "scale": np.abs(np.log(np.abs(fit.turn))),
        "rotation": np.abs(np.angle(fit.turn)),
    }


def _complex(points: Floats) -> Complex:
    return points[..., 0] + 1j * points[..., 1]


def _pairs(numbers: Complex) -> Floats:
    return np.stack([numbers.real, numbers.imag], axis=-1)


def _median(values: Complex) -> complex:
    """Return the medians of both parts."""
    return complex(np.median(values.real), np.median(values.imag))


def _mean(values: Complex) -> Complex:
    """Return the mean over axis 1 without NaN; NaN where there is none."""
    return mean_of_found(values.real, axis=1) + 1j * mean_of_found(values.imag, axis=1)
