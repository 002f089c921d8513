"""Score the hands of a candidate, and keep every component of the score.

The extractor that found the hands in the driving video finds them again in the candidate. Measures compare both
(scoring.measures), a small network looks at the fingers (scoring.fingers), and a logistic regression makes one score
(scoring.quality). A hand that is in the driving video and not in the candidate is a bad hand, not a missing number.
Means weight each hand and frame by ``min(1, size / trusted_hand_size)``, because small hands have less sure landmarks.

A score ranks candidates of one clip. benchmarks/score_validity.py measures how well it tells faultless hands from
spoilt ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ipa_core.config import ScoresConfig
from ipa_core.keypoints import HANDS
from ipa_core.records import HandMeasures, HandScore, PoseSequence, ScoreComponents, Side
from ipa_core.scoring import measures, quality
from ipa_core.scoring.quality import QualityModel

_FEWEST_POINTS = 11
"""A driving hand with fewer of its 21 points is too incomplete for a comparison."""
_LEAST_INSIDE = 0.75
"""Least share of the driving hand's points in the picture."""
_LEAST_CONFIDENCE = 0.1
"""A hand of the candidate with less is not found: a hand network also places points where there is no hand."""

_AS_WHOLE = 2.0
"""Logits in the measure `fingers` of a hand just like the driving video's; they make 0.88."""

NOT_FOUND = "not found in the driving video"
OUT_OF_PICTURE = "out of the picture"


@dataclass(frozen=True, eq=False)
class ScoredHands:
    """A score, and in ``pose`` the hands that were found in the candidate; all other confidences are 0."""

    score: HandScore
    pose: PoseSequence


class HandExtractor(Protocol):
    """The part of a pose extractor that scoring needs (see ``ipa_core.pose.PoseExtractor``)."""

    def extract_hands(self, frames: np.ndarray, guide: PoseSequence) -> PoseSequence:
        """Find the hands in ``frames [T, H, W, 3]`` near the wrists of ``guide``."""


class HandScorer(Protocol):
    """Says how good the hands of a candidate are."""

    def score(
        self, video: np.ndarray, driving_video: np.ndarray, driving: PoseSequence, found: PoseSequence | None = None
    ) -> ScoredHands:
        """Score a video by the driving video and its pose. Both videos are uint8 RGB ``[T, H, W, 3]`` of one size.

        ``found``: where the video shows another person than the driving video, the pose of the driving video, while
        ``driving`` may have that person's proportions. The score then compares the motion, and no sharpness.
        """


class Reward(Protocol):
    """A second opinion on the hands of a candidate."""

    def __call__(self, video: np.ndarray, driving_video: np.ndarray, driving: PoseSequence) -> dict[Side, np.ndarray]:
        """Return ``[T]`` in [0, 1] by side, for videos uint8 RGB ``[T, H, W, 3]``. Higher is better, NaN is unknown."""


class ConfidenceReward:
    """A :class:`Reward`: another pose backend's confidence of the hand's points, mean over the 21."""

    def __init__(self, extractor: HandExtractor) -> None:
        self._extractor = extractor

    def __call__(self, video: np.ndarray, driving_video: np.ndarray, driving: PoseSequence) -> dict[Side, np.ndarray]:
        confidence = self._extractor.extract_hands(video, driving).confidence
        return {side: confidence[:, part].mean(axis=1).clip(0, 1) for side, part in HANDS.items()}


class FingerJudge(Protocol):
    """See ``scoring.fingers.FingerInspector``."""

    def crop(self, picture: np.ndarray, points: np.ndarray, size: float) -> np.ndarray: ...

    def __call__(self, crops: Sequence[np.ndarray]) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Opinions:
    """The parts that make a score besides keypoints. An optional part adds a component when it is present."""

    model: QualityModel
    fingers: FingerJudge | None = None
    reward: Reward | None = None


class KeypointHandScorer:
    """The default :class:`HandScorer`, which compares hands found again in the candidate with the driving hands."""

    def __init__(self, extractor: HandExtractor, config: ScoresConfig, opinions: Opinions) -> None:
        self._extractor = extractor
        self._config = config
        self._opinions = opinions

    def score(
        self, video: np.ndarray, driving_video: np.ndarray, driving: PoseSequence, found: PoseSequence | None = None
    ) -> ScoredHands:
        """See :class:`HandScorer`. Raises ``ValueError`` when the arguments don't have one size and length."""
        if video.shape != driving_video.shape or len(video) != len(driving):
            raise ValueError(
                f"candidate, driving video and pose must have one size and length, "
                f"got {video.shape}, {driving_video.shape} and {len(driving)} frames"
            )
        pose = self._extractor.extract_hands(video, driving)
        reward = self._opinions.reward(video, driving_video, driving) if self._opinions.reward else {}
        hands = []
        for side in HANDS:
            yardstick = driving_video if found is None else None
            measured = measure_hand(side, video, yardstick, pose, driving, self._config)
            guides = measures.hand_points(driving, side), measures.hand_points(found or driving, side)
            measured = self._with_fingers(measured, (video, driving_video), guides)
            hands += _with(measured, "reward", dict(enumerate(reward.get(side, ()))))
        hands.sort(key=lambda hand: (hand.frame, hand.side))
        return ScoredHands(summarise(hands, self._config, self._opinions.model), pose)

    def _with_fingers(
        self,
        hands: list[HandMeasures],
        videos: tuple[np.ndarray, np.ndarray],
        guides: tuple[measures.Floats, measures.Floats],
    ) -> list[HandMeasures]:
        """``videos``: the candidate and the driving video. ``guides``: the driving hand's points in each."""
        if self._opinions.fingers is None:
            return hands
        # The size of the clip, not of the frame: fingers that close don't make the hand smaller.
        scorable = [hand.frame for hand in hands if hand.unscorable is None]
        frames = [frame for frame in scorable if all(np.isfinite(guide[frame]).all() for guide in guides)]
        if not frames:
            return hands
        judge = self._opinions.fingers
        ours, theirs = (
            judge([judge.crop(pictures[frame], guide[frame], size) for frame in frames])
            for pictures, guide in zip(videos, guides, strict=True)
            for size in [float(np.percentile(measures.hand_size(guide)[frames], 75))]
        )
        # The driving hand is the yardstick: it is whole, even if the network misjudges footage unlike its own.
        values = 1 / (1 + np.exp(np.clip(theirs - ours - _AS_WHOLE, -30, 30)))
        return _with(hands, "fingers", dict(zip(frames, values, strict=True)))


def _with(hands: list[HandMeasures], name: str, values: Mapping[int, float]) -> list[HandMeasures]:
    """Fill in the measure ``name`` of the scorable hands by frame."""
    return [
        hand.model_copy(update={name: _number(values[hand.frame])})
        if hand.unscorable is None and hand.frame in values
        else hand
        for hand in hands
    ]


def measure_hand(
    side: Side,
    video: np.ndarray,
    driving_video: np.ndarray | None,
    pose: PoseSequence,
    driving: PoseSequence,
    config: ScoresConfig,
) -> list[HandMeasures]:
    """Measure one hand: one record per frame, with numbers rounded to five digits. Without the driving video no
    sharpness is measured."""
    guide = measures.hand_points(driving, side)
    size = measures.hand_size(guide)
    reasons = _unscorable(guide, size, driving, config)
    guide[[reason is not None for reason in reasons]] = np.nan
    confidence = pose.confidence[:, HANDS[side]].astype(np.float64).mean(axis=1)
    points = measures.hand_points(pose, side)
    points[confidence < _LEAST_CONFIDENCE] = np.nan
    sharpness = np.full(len(guide), np.nan)
    if driving_video is not None:
        # A hand that was not found has no sharpness.
        relative = measures.relative_sharpness(video, driving_video, guide)
        sharpness = np.where(measures.found(points), relative, np.nan)
    columns = {
        "pck": measures.pck(points, guide, config.pck_radius),
        "error": measures.normalised_error(points, guide),
        "bone_consistency": measures.bone_consistency(points, guide),
        "jitter": measures.jitter(points, guide),
        "sharpness": sharpness,
        "wrist_distance": measures.wrist_distance(points, guide),
        "palm_agreement": measures.palm_agreement(points, guide),
        "plausibility": measures.plausibility(points),
    }
    return [
        HandMeasures(
            frame=frame,
            side=side,
            confidence=round(float(confidence[frame]), 5),
            size=_number(size[frame]),
            unscorable=reason,
            **{name: _number(column[frame]) for name, column in columns.items()},
        )
        for frame, reason in enumerate(reasons)
    ]


def hand_score(hand: HandMeasures, config: ScoresConfig, model: QualityModel) -> float:
    """Return the score in [0, 1] of one scorable hand in one frame, as if the whole clip looked like this frame."""
    seen = quality.utilities(hand)
    return quality.score_of(model.logit(quality.features(seen, seen)) + _second_opinion(seen.get("reward"), config))


def summarise(hands: list[HandMeasures], config: ScoresConfig, model: QualityModel) -> HandScore:
    """Make the score of one candidate from its hands. Components are means weighted by hand size."""
    scored = [hand for hand in hands if hand.unscorable is None]
    if not scored:
        return HandScore(
            score=None,
            unscorable=_why_none(hands),
            components=ScoreComponents(**dict.fromkeys(ScoreComponents.model_fields)),
            good_frames=None,
            hands=tuple(hands),
        )
    weights = [min(1.0, hand.size / config.trusted_hand_size) for hand in scored if hand.size is not None]
    scores = [hand_score(hand, config, model) for hand in scored]
    components = {
        name: _number(
            measures.mean_of_found(np.array([getattr(hand, name) for hand in scored], np.float64), weights=weights)
        )
        for name in ScoreComponents.model_fields
    }
    mean, worst = quality.means(scored, weights), quality.worst(scored)
    logit = model.logit(quality.features(mean, worst)) + _second_opinion(mean.get("reward"), config)
    return HandScore(
        score=round(quality.score_of(logit), 5),
        unscorable=None,
        components=ScoreComponents(**components),
        # In the order in which the store returns a record, because tables of records are compared by their bytes.
        worst={name: round(worst[name], 5) for name in sorted(worst)},
        scorable=round(len(scored) / len(hands), 5),
        good_frames=sum(score >= config.good_hand for score in scores) / len(scores),
        hands=tuple(hands),
    )


def _second_opinion(reward: float | None, config: ScoresConfig) -> float:
    """Convert a reward to logits; one half is no opinion."""
    return 0.0 if reward is None else config.reward_weight * (reward - 0.5)


def _unscorable(
    guide: measures.Floats, size: measures.Floats, driving: PoseSequence, config: ScoresConfig
) -> list[str | None]:
    """Return for each frame the reason why the driving hand can't be a yardstick, or None when it can."""
    points_found = np.isfinite(guide).all(axis=2).sum(axis=1)
    inside = measures.share_inside(guide, driving.width, driving.height)
    reasons: list[str | None] = []
    for frame in range(len(guide)):
        if points_found[frame] < _FEWEST_POINTS:
            reasons.append(NOT_FOUND)
        elif inside[frame] < _LEAST_INSIDE:
            reasons.append(OUT_OF_PICTURE)
        elif size[frame] < config.min_hand_size:
            reasons.append(f"smaller than {config.min_hand_size:g} pixels")
        else:
            reasons.append(None)
    return reasons


def _why_none(hands: list[HandMeasures]) -> str:
    """Return, say, ``no hand can be scored: of 18, 12 not found in the driving video, 6 smaller than 16 pixels``."""
    counts = Counter(hand.unscorable for hand in hands)
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items(), key=lambda item: -item[1]))
    return f"no hand can be scored: of {len(hands)}, {listed}"


def _number(value: float | np.floating | np.ndarray) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None
