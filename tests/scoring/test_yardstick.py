"""The rule that says before anything is generated which clips can't be scored is the scorer's own."""

from __future__ import annotations

import numpy as np
import pytest

from ipa_core.config import ScoresConfig
from ipa_core.keypoints import HANDS
from ipa_core.records import PoseSequence
from ipa_core.scoring.yardstick import largest_hand, why_unscorable
from tests.scoring.hands import FRAMES, WIDTH, moving_hands, pose_of
from tests.scoring.test_scorer import score


def hidden(pose: PoseSequence, points: int) -> PoseSequence:
    """The pose with so many points of each hand not found."""
    for part in HANDS.values():
        pose.confidence[:, part.start : part.start + points] = 0
    return pose


@pytest.mark.parametrize(
    "driving",
    [
        pose_of(moving_hands(size=40)),
        pose_of(moving_hands(size=9)),
        pose_of({side: points + np.array([WIDTH, 0]) for side, points in moving_hands().items()}),
        hidden(pose_of(moving_hands()), points=10),
        hidden(pose_of(moving_hands()), points=11),
        pose_of({"left": np.concatenate([moving_hands(size)["left"][:1] for size in (9, 12, 17, 9, 9)])}),
    ],
    ids=["fine", "small", "outside", "just enough points", "too few points", "large in one frame"],
)
def test_no_clip_is_left_out_that_the_scorer_scores(driving: PoseSequence) -> None:
    result = score(pose_of(moving_hands()), driving)
    assert (why_unscorable(largest_hand(driving), ScoresConfig()) is None) == (result.score is not None)


def test_the_largest_hand_of_any_frame_and_side_counts() -> None:
    sizes = {"left": [9, 12, 17, 9, 9], "right": [10, 11, 11, 10, 10]}
    hands = {
        side: np.concatenate([moving_hands(size)[side][:1] for size in of_side])  # type: ignore[index]
        for side, of_side in sizes.items()
    }
    assert len(hands["left"]) == FRAMES
    assert largest_hand(pose_of(hands)) == pytest.approx(17, abs=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("largest", "reason"),
    [
        (16.0, None),
        (9.04, "no hand can be scored: the largest has 9.0 pixels, scores.min_hand_size is 16"),
        (0.0, "no hand can be scored: none is found whole in the driving video, scores.min_hand_size is 16"),
    ],
)
def test_the_reason_names_the_size_and_the_setting(largest: float, reason: str | None) -> None:
    assert why_unscorable(largest, ScoresConfig()) == reason
