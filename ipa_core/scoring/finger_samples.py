"""Pairs of hands that the finger network learns from: a candidate's crop, the driving hand's, and the label.

A stack is one hand in T frames, as one or two performers show it. From it come variants: the performers are drawn for
candidate and driving hand, the hand gets a size in pixels, perhaps a fault, and the changes that do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from ipa_core.scoring import harmless
from ipa_core.scoring.aligned import Similarity
from ipa_core.scoring.crops import SIZE
from ipa_core.scoring.finger_faults import FAULTS, spoil
from ipa_core.scoring.finger_pairs import CELLS, crop, pooled
from ipa_core.scoring.registration import by_picture

SMALLEST: Final = 22.0
"""Least size of a hand in pixels. Crops show 80 pixels of a hand, so hands beyond the stack's size add nothing."""
WHOLE, SPOILT = 14, 18
"""Variants of a stack, of FRAMES frames each."""
FRAMES: Final = 2
WEIGHTS: Final = {
    **dict.fromkeys(FAULTS, 1.0),
    **dict.fromkeys(("finger_erased", "finger_added", "six_fingers", "thumb_erased"), 2.5),
    **dict.fromkeys(("tip_erased", "fingers_fused", "finger_length"), 1.7),
    **dict.fromkeys(("missing", "warp", "swapped", "duplicated"), 0.6),
}
_LEAST_CHANGED: Final = 0.010
"""Least share of the crop's pixels that a visible fault changes. An erased finger that was folded shows nothing."""
_VISIBLE: Final = 20
"""A larger change, in grey levels, is visible."""
_SAME_PERFORMER: Final = 0.5
_OTHER_SIZE: Final = 0.7
_ASTRAY: Final = 0.15
"""Share of the candidates whose points lie far off."""
_TRIES: Final = 4
"""Draws of a fault until it shows: many fingers are folded."""
_COVERED, _COVERED_ALONE, _RING = 0.12, 0.03, 0.08


@dataclass(frozen=True, eq=False)
class Stack:
    """frames: uint8 ``[T, H, H, 3]``; points: ``[T, 21, 2]`` pixels as a detector finds them; size: of the hand."""

    frames: np.ndarray
    points: np.ndarray
    size: float


@dataclass(frozen=True, eq=False)
class Pair:
    """ours, theirs: uint8 ``[SIZE, SIZE, 3]``; drawn: the driving skeleton uint8 ``[SIZE / 4, SIZE / 4, 5]``; where:
    uint8 ``[CELLS, CELLS]``, the share of each cell, of 255, that the fault changes; kind: the fault, or None; size: of
    the hand in pixels."""

    ours: np.ndarray
    theirs: np.ndarray
    drawn: np.ndarray
    where: np.ndarray
    kind: str | None
    size: float


def shows(whole: np.ndarray, spoilt: np.ndarray) -> bool:
    """Return whether the fault is visible. Both crops are uint8 ``[SIZE, SIZE, 3 or more]``."""
    change = np.abs(whole[..., :3].astype(np.int16) - spoilt[..., :3]).max(axis=2)
    return bool((change > _VISIBLE).mean() >= _LEAST_CHANGED)


def samples(shown: list[Stack], rng: np.random.Generator) -> Iterator[Pair]:
    """Yield the pairs of one hand's stacks."""
    names, weights = list(WEIGHTS), np.array(list(WEIGHTS.values()))
    kinds = [None] * WHOLE + rng.choice(names, SPOILT, p=weights / weights.sum()).tolist()
    for kind in kinds:
        ours = int(rng.integers(len(shown)))
        theirs = ours if rng.random() < _SAME_PERFORMER else (ours + 1) % len(shown)
        frames = np.sort(rng.choice(len(shown[ours].frames), FRAMES, replace=False))
        yield from variant(shown[ours], shown[theirs], frames, kind, rng)


def variant(
    ours: Stack, theirs: Stack, frames: np.ndarray, kind: str | None, rng: np.random.Generator
) -> Iterator[Pair]:
    """Yield a pair for each of the frames, without those in which the fault does not show."""
    size = ours.size
    if rng.random() < _OTHER_SIZE:
        size = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(ours.size))))
    (clean, points), (driving, guide) = (_resized(one, frames, size / ours.size) for one in (ours, theirs))
    if rng.random() < _RING:
        clean = harmless.ringed(clean, points, size, rng)
    video, shown = clean, np.ones(len(frames), bool)
    for _ in range(_TRIES if kind is not None else 0):
        video = spoil(str(kind), clean, points, int(rng.integers(1, 4)), int(rng.integers(2**31)))
        shown = np.array(
            [shows(*(crop(seen[i], points[i], size) for seen in (clean, video))) for i in range(len(video))]
        )
        if shown.any():
            break
    covering = np.random.default_rng(int(rng.integers(2**31)))
    if rng.random() < _COVERED:
        hands = [points, points, guide]
        video, clean, driving = harmless.covered([video, clean, driving], hands, size, covering)
    elif rng.random() < _COVERED_ALONE:
        video, clean = harmless.covered([video, clean], [points, points], size, covering)
    strength = (1.0 if rng.random() < 0.75 else 0.2) * min(1.0, size / 30)
    changed = harmless.changed(video, points, size, rng, strength=strength)
    driving = harmless.changed(driving, guide, size, rng, strength=0.25)
    error, about = _error(rng, 0.08 if rng.random() < _ASTRAY else 0.025, 0.15), _error(rng, 0.015, 0.04)
    for number in np.flatnonzero(shown):
        seen = about(guide[number], size)
        place, large = _laid(
            changed[number], driving[number], seen, error(aligned(guide[number], points[number]), size), size
        )
        candidate = crop(changed[number], place, large)[..., :3]
        reference = crop(driving[number], seen, size)
        where = _where(*(crop(one[number], place, large)[..., :3] for one in (clean, video)))
        yield Pair(candidate, reference[..., :3], pooled(reference[None, ..., 3:])[0], where, kind, size)


def _laid(
    picture: np.ndarray, driving_picture: np.ndarray, points: np.ndarray, found: np.ndarray, size: float
) -> tuple[np.ndarray, float]:
    """Return the points of the driving hand in the candidate, and its size there, as the scorer has them."""
    first = Similarity.between(points[None], found[None])
    _, place = by_picture(picture, driving_picture, points, [first], size)
    return place.onto(points[None])[0], size * float(abs(place.turn[0]))


def _where(clean: np.ndarray, spoilt: np.ndarray) -> np.ndarray:
    """Return uint8 ``[SIZE / 8, SIZE / 8]``: the share of each cell, of 255, that the fault changes."""
    change = np.abs(clean.astype(np.int16) - spoilt).max(axis=2) > _VISIBLE
    return np.asarray(change.reshape(CELLS, SIZE // CELLS, CELLS, SIZE // CELLS).mean(axis=(1, 3)) * 255).astype(
        np.uint8
    )


def _resized(stack: Stack, frames: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    chosen, points = stack.frames[frames], stack.points[frames]
    if share >= 0.99:
        return chosen, points
    side = round(chosen.shape[1] * share)
    small = np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in chosen])
    return small, points * (side / chosen.shape[1])


def aligned(points: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Move, turn and scale ``points [21, 2]`` onto ``towards``, as the scorer does with the driving hand."""
    here, there = points - points.mean(axis=0), towards - towards.mean(axis=0)
    first, second = here[:, 0] + 1j * here[:, 1], there[:, 0] + 1j * there[:, 1]
    turn = np.vdot(first, second) / max(float(np.vdot(first, first).real), 1e-6)
    placed = first * turn
    return np.stack([placed.real, placed.imag], axis=1) + towards.mean(axis=0)


def _error(rng: np.random.Generator, usual: float, most: float) -> Callable[[np.ndarray, float], np.ndarray]:
    """Return a function that misplaces points like a detector: the whole hand by up to ``most`` hand sizes, with a
    small turn and scale, and each point a little."""
    shift = np.clip(rng.normal(0, usual, 2), -most, most)
    angle, scale = np.clip(rng.normal(0, 1.5 * usual), -0.25, 0.25), np.exp(np.clip(rng.normal(0, usual), -0.15, 0.15))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    jitter = rng.normal(0, 0.012, (21, 2))

    def misplaced(points: np.ndarray, size: float) -> np.ndarray:
        centre = points.mean(axis=0)
        return np.asarray((points - centre) @ turn.T + centre + (shift + jitter) * size)

    return misplaced
