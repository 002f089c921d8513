"""Does a fault show? A finger that was folded, or that lies before the hand, can be erased and nothing changes in the
picture. No score can see such a fault, so tables say how many show, and judge on these too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from flows.experiments.score_material import points_of, sides
from flows.experiments.score_measures import MATERIAL, Made, Measured
from flows.experiments.score_trials import Trial, before_nuisances
from ipa_core.scoring.crops import SCALE, SIZE
from ipa_core.scoring.finger_pairs import crop
from ipa_core.scoring.measures import hand_size

VISIBLE: Final = 20
"""A larger change, in grey levels, is visible."""
LEAST: Final = 0.005
"""Least share of the crop of a hand that a fault changes near the fingers to show: about a finger tip."""
REACH: Final = 0.15
"""Hand sizes around the fingers' bones where a change counts. The shadow of a finger is no finger."""


def shown(found: Sequence[Measured], folder: Path) -> set[Trial]:
    """Return the trials whose fault shows in at least half of the frames of a hand. ``folder`` is that of
    ``score_measures.measure``."""
    made = Made(folder / f"videos-{MATERIAL}")
    driving = {one.trial.subject: made.subject(one.trial.subject) for one in found}
    there = set()
    for trial in (one.trial for one in found if one.trial.kind is not None):
        frames, pose = driving[trial.subject]
        whole, spoilt = before_nuisances(trial, frames, pose)
        hands = [points_of(pose, side) for side in sides(pose)]
        if max(share_shown(whole, spoilt, points) for points in hands) >= 0.5:
            there.add(trial)
    return there


def share_shown(whole: np.ndarray, spoilt: np.ndarray, points: np.ndarray) -> float:
    """Return the share of the hand's frames in which the fault shows. Videos are uint8 ``[T, H, W, 3]``."""
    known = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
    size = float(np.percentile(hand_size(points)[known], 75))
    reach = np.ones((2 * round(REACH * SIZE / SCALE) + 1,) * 2, np.uint8)
    changed = []
    for frame in known:
        ours, theirs = (crop(video[frame], points[frame], size) for video in (spoilt, whole))
        near = cv2.dilate(theirs[..., 3:].max(axis=2), reach) > 0
        change = np.abs(ours[..., :3].astype(np.int16) - theirs[..., :3]).max(axis=2) > VISIBLE
        changed.append(bool((change & near).mean() >= LEAST))
    return float(np.mean(changed))
