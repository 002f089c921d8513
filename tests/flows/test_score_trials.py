"""The videos that the hand score is fitted to and judged on."""

from __future__ import annotations

import numpy as np

from flows.experiments.score_material import Subject
from flows.experiments.score_trials import Trial, before_nuisances, video_of
from tests.scoring.hands import moving_hands, pose_of
from tests.scoring.hands import video_of as picture_of

HANDS = moving_hands()
FRAMES, POSE = picture_of(HANDS), pose_of(HANDS)
CLIP = Subject(path="clip.mp4", digest="0" * 64)


def test_a_fault_is_seen_beside_the_same_video_without_it() -> None:
    whole, spoilt = before_nuisances(Trial(CLIP, "finger_erased", 2, nuisances=("grain",)), FRAMES, POSE)
    assert np.array_equal(whole, FRAMES)
    changed = np.abs(spoilt.astype(int) - whole).max(axis=(0, 3)) > 0
    rows, columns = np.nonzero(changed)
    points = np.concatenate([hand.reshape(-1, 2) for hand in HANDS.values()])
    assert len(rows) > 0
    assert points[:, 1].min() - 20 < rows.min()
    assert rows.max() < points[:, 1].max() + 20
    assert points[:, 0].min() - 20 < columns.min()
    assert columns.max() < points[:, 0].max() + 20


def test_a_trial_without_nuisances_is_its_spoilt_video() -> None:
    trial = Trial(CLIP, "fingers_fused", 1)
    assert np.array_equal(video_of(trial, FRAMES, POSE), before_nuisances(trial, FRAMES, POSE)[1])
