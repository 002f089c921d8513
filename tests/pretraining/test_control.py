"""Controls of the training set: what they show, and how far they stray from the truth."""

from __future__ import annotations

import numpy as np

from ipa_core import keypoints as kp
from ipa_core.people.dataset import RenderedSet
from ipa_core.pretraining.control import as_detected, draw_control


def test_less_hand_detail_draws_less(rendered_set: RenderedSet) -> None:
    points, sure = rendered_set.keypoints[0], rendered_set.confidence[0]
    full, palm, none = (draw_control(points, sure, 48, detail) for detail in ("full", "palm", "none"))
    assert full.shape == (5, 48, 48, 3)
    lit = [int((drawing.max(axis=-1) > 0).sum()) for drawing in (full, palm, none)]
    assert lit[0] > lit[1] > lit[2] > 0


def test_detected_points_stay_near_and_follow_the_generator(rendered_set: RenderedSet) -> None:
    points, sure = rendered_set.keypoints[0], rendered_set.confidence[0]
    first, _ = as_detected(points, sure, np.random.default_rng(1), jitter=0.02)
    again, confidence = as_detected(points, sure, np.random.default_rng(1), jitter=0.02)
    other, _ = as_detected(points, sure, np.random.default_rng(2), jitter=0.02)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    for part in kp.HANDS.values():
        size = np.ptp(points[:, part], axis=1).max()
        assert np.linalg.norm(first[:, part] - points[:, part], axis=-1).max() < 0.25 * size
    assert (confidence[:, [kp.LEFT_ELBOW, kp.RIGHT_ELBOW]] == 1).all()
    assert np.array_equal(rendered_set.keypoints[0], points), "the input is left alone"
