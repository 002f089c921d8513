"""Give a driving skeleton the reference person's proportions: bone lengths, size and place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ipa_core import keypoints as kp
from ipa_core.records import PoseSequence

HIPS, NECK = 17, 18
"""Middles of the hips and of the shoulders, behind the 17 body points."""
BONES: Final = (
    (HIPS, NECK), (NECK, kp.LEFT_SHOULDER), (NECK, kp.RIGHT_SHOULDER), (HIPS, kp.LEFT_HIP), (HIPS, kp.RIGHT_HIP),
    (kp.LEFT_SHOULDER, kp.LEFT_ELBOW), (kp.RIGHT_SHOULDER, kp.RIGHT_ELBOW),
    (kp.LEFT_ELBOW, kp.LEFT_WRIST), (kp.RIGHT_ELBOW, kp.RIGHT_WRIST),
    (kp.LEFT_HIP, kp.LEFT_KNEE), (kp.RIGHT_HIP, kp.RIGHT_KNEE),
    (kp.LEFT_KNEE, kp.LEFT_ANKLE), (kp.RIGHT_KNEE, kp.RIGHT_ANKLE),
    (NECK, kp.NOSE), (kp.NOSE, kp.LEFT_EYE), (kp.NOSE, kp.RIGHT_EYE), (kp.NOSE, kp.LEFT_EAR), (kp.NOSE, kp.RIGHT_EAR),
)  # fmt: skip
"""From the hips outwards, so each parent stands before its children. Left and right bones share their length."""
SEEN: Final = 0.3
_LONGEST: Final = 0.9
"""Quantile of a bone's length over the frames that counts as its length: mostly it is foreshortened."""
_MOST: Final = 1.5
"""A bone's ratio differs from the whole body's by this factor at most: it may be foreshortened in the reference."""


@dataclass(frozen=True)
class _Body:
    """points: ``[T, 19, 2]``, body points, hips and neck. seen: ``[T, 19]``."""

    points: np.ndarray
    seen: np.ndarray


def retarget(driving: PoseSequence, reference: PoseSequence) -> PoseSequence:
    """Return the driving motion for the person of ``reference``, which has one frame of the same size.

    Each bone keeps its direction and gets the length that the reference's bone has. The motion begins where the
    reference stands, and its ways are as long as the size of the body says. Hands, face and feet hang on wrists, nose
    and ankles. Bones that the reference does not show change as the whole body does. Raises ``ValueError`` when no bone
    is seen in both.
    """
    body, other = _body(driving), _body(reference)
    ratios = _ratios(body, other)
    size = _size(ratios)
    root = next((part for part in (HIPS, NECK, kp.NOSE) if other.seen[0, part] and body.seen[:, part].any()), None)
    if root is None:
        raise ValueError("the reference shows no hips, shoulders or nose that the driving video shows too")
    first = body.points[np.argmax(body.seen[:, root]), root]

    def moved(points: np.ndarray) -> np.ndarray:
        return other.points[0, root] + size * (points - first)

    points = moved(body.points)  # For points whose parent is not seen.
    for number, (parent, child) in _outwards(root):
        ratio = float(np.clip(ratios.get(number, size), size / _MOST, size * _MOST))
        both = body.seen[:, parent] & body.seen[:, child]
        points[both, child] = points[both, parent] + ratio * (body.points[both, child] - body.points[both, parent])
    keypoints = moved(driving.keypoints)
    keypoints[:, kp.BODY] = points[:, : kp.BODY.stop]
    for part, joint in _hung():
        offsets = driving.keypoints[:, part] - body.points[:, [joint]]
        hung = points[:, [joint]] + size * offsets
        keypoints[:, part] = np.where(body.seen[:, [joint], None], hung, keypoints[:, part])
    keypoints[driving.confidence == 0] = 0
    return replace(driving, keypoints=keypoints.astype(np.float32))


def _body(pose: PoseSequence) -> _Body:
    points, seen = pose.keypoints[:, kp.BODY].astype(float), pose.confidence[:, kp.BODY] >= SEEN
    pairs = ([kp.LEFT_HIP, kp.RIGHT_HIP], [kp.LEFT_SHOULDER, kp.RIGHT_SHOULDER])
    middles = np.stack([points[:, pair].mean(1) for pair in pairs], axis=1)
    both = np.stack([seen[:, pair].all(1) for pair in pairs], axis=1)
    return _Body(np.concatenate([points, middles], axis=1), np.concatenate([seen, both], axis=1))


def _ratios(body: _Body, other: _Body) -> dict[int, float]:
    """Return by bone how much longer it is in the reference; bones that one of the two does not show are left out."""
    lengths = [(_length(body, bone), _length(other, bone)) for bone in BONES]
    found = {}
    for number in range(len(BONES)):
        pair = [lengths[same] for same in _mirrored(number)]
        known = [(ours, theirs) for ours, theirs in pair if ours and theirs]
        if known:
            found[number] = sum(theirs for _, theirs in known) / sum(ours for ours, _ in known)
    return found


def _length(body: _Body, bone: tuple[int, int]) -> float:
    parent, child = bone
    both = body.seen[:, parent] & body.seen[:, child]
    lengths = np.hypot(*(body.points[both, child] - body.points[both, parent]).T)
    return float(np.quantile(lengths, _LONGEST)) if len(lengths) else 0.0


def _mirrored(number: int) -> tuple[int, ...]:
    """Return the positions of a bone and its mirror image: odd and even positions from 1 on, but for the nose's."""
    nose = BONES.index((NECK, kp.NOSE))
    if number in (0, nose):
        return (number,)
    first = number - (number - 1) % 2 if number < nose else number - (number - nose - 1) % 2
    return first, first + 1


def _size(ratios: dict[int, float]) -> float:
    """Return how much larger the reference is: of the torso, or else the median bone."""
    if not ratios:
        raise ValueError("the reference shows no bone that the driving video shows too")
    return ratios[0] if 0 in ratios else float(np.median(list(ratios.values())))


def _outwards(root: int) -> list[tuple[int, tuple[int, int]]]:
    """Return the bones with their numbers; from the neck as root, the torso goes down to the hips."""
    bones = list(enumerate(BONES))
    return bones if root == HIPS else [(0, (NECK, HIPS)), *bones[1:]]


def _hung() -> list[tuple[slice, int]]:
    """Return the parts that hang on a body point."""
    left, right = slice(17, 20), slice(20, 23)
    return [
        (kp.LEFT_HAND, kp.LEFT_WRIST),
        (kp.RIGHT_HAND, kp.RIGHT_WRIST),
        (kp.FACE, kp.NOSE),
        (left, kp.LEFT_ANKLE),
        (right, kp.RIGHT_ANKLE),
    ]
