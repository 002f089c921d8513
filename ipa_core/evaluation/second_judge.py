"""The second judge: a hand network of another architecture, trained on other data than the hand score.

It never chooses: neither selection nor promotion reads its numbers, so nothing was optimised for it. The network is the
landmark model of Yoha, a MobileNetV2 with heat maps (docs/second-judge.md says where to get it and how well it judges).
It tells whether a picture shows a hand, and where 21 points of the hand are. It sees the generated hand and the true
one. It does not count fingers: it finds five in any hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from ipa_core.config import ConfigError
from ipa_core.evaluation.graph_files import GraphError, GraphFiles, files_of, read_graph
from ipa_core.keypoints import HANDS
from ipa_core.records import PoseSequence

NAME: Final = "second judge (never chooses)"
VERSION: Final = 1
"""Raise it when the same files judge the same video otherwise: it is in the key."""
SIDE: Final = 224
"""Side of the network's picture, pixels."""
MARGIN: Final = 0.75
"""Margin of that picture around the hand's points, in palm lengths. The network was trained with it."""
SEEN: Final = 0.5
"""Probability of a hand from which the judge sees it."""
FAR: Final = 0.2
"""Distance, in hand sizes, from which a point counts nothing."""
_MODEL: Final = "model.json"
_INPUTS: Final = {"image": (-1, SIDE, SIDE, 3)}
_OUTPUTS: Final = {"coordinates": (-1, 21, 2), "classes": (-1, 4, 2)}
_NO_HAND: Final = 2
"""The class of pictures without a hand."""
_AT_ONCE: Final = 32
_WRIST, _KNUCKLES = 0, (1, 5, 9, 13, 17)


def judge_files(folder: str) -> list[Path]:
    """Return the files of a judge's folder. Raises :class:`~ipa_core.config.ConfigError` when one is missing."""
    try:
        return files_of(Path(folder) / _MODEL)
    except GraphError as trouble:
        raise _no_judge(folder, trouble) from None


def read_judge(folder: str) -> GraphFiles:
    """Raises :class:`~ipa_core.config.ConfigError` when the files are another model's, or not whole."""
    try:
        graph = read_graph(Path(folder) / _MODEL)
    except GraphError as trouble:
        raise _no_judge(folder, trouble) from None
    if graph.inputs != _INPUTS or graph.outputs != _OUTPUTS:
        raise _no_judge(folder, "it is another model: its inputs or outputs have other names or sizes")
    return graph


def _no_judge(folder: str, reason: object) -> ConfigError:
    return ConfigError(
        f"evaluation.judge: {folder} is no second judge: {reason}; docs/second-judge.md says where it is"
    )


class SecondJudge:
    """Computes on the CPU. Raises :class:`~ipa_core.config.ConfigError` as :func:`read_judge`."""

    def __init__(self, folder: str) -> None:
        from ipa_core.evaluation.graph import Graph

        self._graph = Graph(read_judge(folder))

    def judge(
        self, videos: Iterable[np.ndarray], pose: PoseSequence, truth: np.ndarray, found: PoseSequence
    ) -> list[float | None]:
        """Return for each generated video the mean over hands and frames, in [0, 1]: the probability that a hand is
        there, times the nearness of its points to those of the true hand. Only hands count that the judge sees in the
        true video; ``None``: there is none.

        ``videos`` and ``truth``: uint8 RGB ``[T, H, W, 3]``. Hands are looked for where ``pose`` has them in the
        generated videos and ``found`` in the true one: two poses, because another person may have been animated.
        """
        known = [
            (frame, part)
            for part in HANDS.values()
            for frame in range(len(truth))
            if all((one.confidence[frame, part] > 0).all() for one in (pose, found))
        ]
        points, shown = self._seen(truth, found, known)
        there = shown >= SEEN
        hands, theirs = [hand for hand, seen in zip(known, there, strict=True) if seen], points[there]
        return [self._judged(video, pose, hands, theirs) for video in videos]

    def _judged(
        self, video: np.ndarray, pose: PoseSequence, hands: Sequence[tuple[int, slice]], theirs: np.ndarray
    ) -> float | None:
        if not hands:
            return None
        ours, shown = self._seen(video, pose, hands)
        return round(float((shown * nearness(ours, theirs)).mean()), 6)

    def _seen(
        self, video: np.ndarray, pose: PoseSequence, hands: Sequence[tuple[int, slice]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return of N hands (frame, part of the pose) the points ``[N, 21, 2]``, over the hand's picture from -1 to 1,
        and the probabilities ``[N]`` that a hand is there."""
        import torch

        points, shown = [np.zeros((0, 21, 2))], [np.zeros(0)]
        for start in range(0, len(hands), _AT_ONCE):
            some = hands[start : start + _AT_ONCE]
            pictures = [hand_picture(video[frame], pose.keypoints[frame, part]) for frame, part in some]
            answer = self._graph(image=torch.from_numpy(np.stack(pictures)).float())
            points.append(answer["coordinates"].numpy())
            shown.append(1 - answer["classes"][:, _NO_HAND, 1].numpy())
        return np.concatenate(points), np.concatenate(shown)


def nearness(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return for hands ``[N, 21, 2]`` the mean over their points, ``[N]`` in [0, 1]: 1 in the same place, 0 from FAR
    hand sizes on. The centres are laid on each other, because a good hand some pixels beside is good."""
    size = np.ptp(theirs, axis=1).max(axis=1).clip(min=1e-6)
    ours, theirs = (points - points.mean(axis=1, keepdims=True) for points in (ours, theirs))
    far = np.linalg.norm(ours - theirs, axis=2) / size[:, None] / FAR
    return np.asarray((1 - far).clip(min=0).mean(axis=1))


def hand_picture(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return uint8 ``[SIDE, SIDE, 3]``: the hand with these 21 points upright, as the network was trained; black where
    the picture ends."""
    points = np.asarray(points, np.float64)
    along = points[9] - points[_WRIST]
    turn = np.array([[-along[1], along[0]], [-along[0], -along[1]]]) / max(float(np.hypot(*along)), 1e-6)
    palm = max(
        *(float(np.hypot(*(points[one] - points[_WRIST]))) for one in _KNUCKLES),
        float(np.hypot(*(points[17] - points[5]))),
    )
    upright = points @ turn.T
    low, high = upright.min(axis=0) - MARGIN * palm, upright.max(axis=0) + MARGIN * palm
    scale = SIDE / np.maximum(high - low, 1e-6)
    shrink = float(scale.max())
    if shrink < 1:  # By areas first, because sampling alone would make edges rough.
        height, width = (max(1, round(side * shrink)) for side in picture.shape[:2])
        turn = turn * (picture.shape[1] / width, picture.shape[0] / height)
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    matrix = scale[:, None] * turn
    # cv2 counts from the centre of the first pixel, the keypoints from its corner.
    move = -scale * low + matrix @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(picture, np.column_stack([matrix, move]), (SIDE, SIDE), flags=cv2.INTER_LINEAR)
