"""The driving hands that can be the yardstick of a score: the driving pose alone tells, before anything is made."""

from __future__ import annotations

from typing import Final

import numpy as np

from ipa_core.config import ScoresConfig
from ipa_core.keypoints import HANDS
from ipa_core.records import PoseSequence
from ipa_core.scoring import measures

_FEWEST_POINTS: Final = 11
"""A driving hand with fewer of its 21 points is too incomplete for a comparison."""
_LEAST_INSIDE: Final = 0.75
"""Least share of the driving hand's points in the picture."""

NOT_FOUND: Final = "not found in the driving video"
OUT_OF_PICTURE: Final = "out of the picture"
UNSCORABLE: Final = "no hand can be scored"
"""Begins the reason why a whole video has no score."""


def unscorable(guide: measures.Floats, driving: PoseSequence, least: float) -> list[str | None]:
    """Return for each frame the reason why the driving hand can't be a yardstick, or None when it can.

    ``guide``: the hand's points ``[T, 21, 2]``. ``least``: the smallest size in pixels that will do.
    """
    points_found = np.isfinite(guide).all(axis=2).sum(axis=1)
    inside, size = measures.share_inside(guide, driving.width, driving.height), measures.hand_size(guide)
    reasons: list[str | None] = []
    for frame in range(len(guide)):
        if points_found[frame] < _FEWEST_POINTS:
            reasons.append(NOT_FOUND)
        elif inside[frame] < _LEAST_INSIDE:
            reasons.append(OUT_OF_PICTURE)
        elif size[frame] < least:
            reasons.append(f"smaller than {least:g} pixels")
        else:
            reasons.append(None)
    return reasons


def largest_hand(driving: PoseSequence) -> float:
    """Return the size in pixels of the largest driving hand that can be a yardstick, over all frames; 0 without any."""
    sizes = [0.0]
    for side in HANDS:
        guide = measures.hand_points(driving, side)
        whole = [reason is None for reason in unscorable(guide, driving, 0)]
        sizes += measures.hand_size(guide)[whole].tolist()
    return max(sizes)


def why_unscorable(largest: float, config: ScoresConfig) -> str | None:
    """Return why no candidate of a clip can get a score, or None if they can. ``largest``: see :func:`largest_hand`."""
    if largest >= config.min_hand_size:
        return None
    found = f"the largest has {largest:.1f} pixels" if largest else "none is found whole in the driving video"
    return f"{UNSCORABLE}: {found}, scores.min_hand_size is {config.min_hand_size:g}"
