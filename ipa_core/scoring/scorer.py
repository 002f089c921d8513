"""Hands of a candidate -> one score, with every component kept.

The hands are found again in the candidate, by the extractor that found them in the driving video, and compared with
those. Of one hand in one frame, with ``w`` of :class:`~ipa_core.config.ScoresConfig`:

=============  ==================================================================  ====================
part           utility in [0, 1]                                                   weight
=============  ==================================================================  ====================
confidence     keypoint confidence                                                 ``weight_confidence``
agreement      mean of: pck; 1 - 2 * error                                         ``weight_agreement``
stability      mean of: bone_consistency; 1 - 2 * jitter                           ``weight_stability``
sharpness      the smaller of sharpness and 1 / sharpness (noise is no detail)     ``weight_sharpness``
=============  ==================================================================  ====================

Utilities are cut at 0 and 1. What could not be measured drops out and the rest is weighted up. A hand that the driving
video shows and the candidate does not has confidence 0 (or the low presence) and pck 0: a bad hand, not a missing
number. A candidate's score is the mean over its scorable hands and frames, each weighted by
``min(1, size / trusted_hand_size)``: landmarks on small hands are known less well.

The weights follow from paired trials on real clips: confidence alone ranks a clip's own corruptions at AUROC .77, the
combination at .97; sharpness alone misleads. Missing or doubled fingers are hardly seen by any of it. So a score ranks
candidates of one clip; it is no grade across clips.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ipa_core.config import ScoresConfig
from ipa_core.keypoints import HANDS
from ipa_core.records import HandMeasures, HandScore, PoseSequence, ScoreComponents, Side
from ipa_core.scoring import measures

_FEWEST_POINTS = 11
"""Of 21; a driving hand with fewer is too incomplete to compare with."""
_LEAST_INSIDE = 0.75
"""Share of the driving hand's points in the picture."""
_LEAST_CONFIDENCE = 0.1
"""Below, a hand of the candidate is not found: a hand network puts its points somewhere also where nothing is."""

NOT_FOUND = "not found in the driving video"
OUT_OF_PICTURE = "out of the picture"


@dataclass(frozen=True, eq=False)
class ScoredHands:
    """``pose`` holds the hands that were found in the candidate; all other confidences are 0."""

    score: HandScore
    pose: PoseSequence


class HandExtractor(Protocol):
    """The part of a pose extractor that scoring needs (see ``ipa_core.pose.PoseExtractor``)."""

    def extract_hands(self, frames: np.ndarray, guide: PoseSequence) -> PoseSequence:
        """Hands of ``frames [T, H, W, 3]``, looked for where ``guide`` has the wrists."""


class HandScorer(Protocol):
    """Says how good the hands of a candidate are."""

    def score(self, video: np.ndarray, driving_video: np.ndarray, driving: PoseSequence) -> ScoredHands:
        """Both videos uint8 RGB ``[T, H, W, 3]`` of one size; ``driving`` is the driving video's pose."""


class KeypointHandScorer:
    """The default :class:`HandScorer`: finds the hands of the candidate again and compares keypoints."""

    def __init__(self, extractor: HandExtractor, config: ScoresConfig) -> None:
        self._extractor = extractor
        self._config = config

    def score(self, video: np.ndarray, driving_video: np.ndarray, driving: PoseSequence) -> ScoredHands:
        """See :class:`HandScorer`. Raises ``ValueError`` where the three don't fit together."""
        if video.shape != driving_video.shape or len(video) != len(driving):
            raise ValueError(
                f"candidate, driving video and pose must have one size and length, "
                f"got {video.shape}, {driving_video.shape} and {len(driving)} frames"
            )
        pose = self._extractor.extract_hands(video, driving)
        hands = [
            hand for side in HANDS for hand in measure_hand(side, video, driving_video, pose, driving, self._config)
        ]
        return ScoredHands(summarise(sorted(hands, key=lambda hand: (hand.frame, hand.side)), self._config), pose)


def measure_hand(
    side: Side,
    video: np.ndarray,
    driving_video: np.ndarray,
    pose: PoseSequence,
    driving: PoseSequence,
    config: ScoresConfig,
) -> list[HandMeasures]:
    """All measures of one hand, one record per frame; numbers rounded to five digits."""
    guide = measures.hand_points(driving, side)
    size = measures.hand_size(guide)
    reasons = _unscorable(guide, size, driving, config)
    guide[[reason is not None for reason in reasons]] = np.nan
    confidence = pose.confidence[:, HANDS[side]].astype(np.float64).mean(axis=1)
    points = measures.hand_points(pose, side)
    points[confidence < _LEAST_CONFIDENCE] = np.nan
    columns = {
        "pck": measures.pck(points, guide, config.pck_radius),
        "error": measures.normalised_error(points, guide),
        "bone_consistency": measures.bone_consistency(points, guide),
        "jitter": measures.jitter(points, guide),
        # Where no hand was found there is none to be sharp.
        "sharpness": np.where(measures.found(points), measures.relative_sharpness(video, driving_video, guide), np.nan),
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


def hand_score(hand: HandMeasures, config: ScoresConfig) -> float:
    """Score of one scorable hand in one frame, in [0, 1]; the table is at the top of this file."""
    agreement = [hand.pck, None if hand.error is None else 1 - 2 * hand.error]
    stability = [hand.bone_consistency, None if hand.jitter is None else 1 - 2 * hand.jitter]
    sharpness = None if hand.sharpness is None else min(hand.sharpness, 1 / max(hand.sharpness, 1e-6))
    parts = (
        (config.weight_confidence, [hand.confidence]),
        (config.weight_agreement, agreement),
        (config.weight_stability, stability),
        (config.weight_sharpness, [sharpness]),
    )
    total = weights = 0.0
    for weight, utilities in parts:
        measured = [min(1.0, max(0.0, utility)) for utility in utilities if utility is not None]
        if measured:
            total += weight * sum(measured) / len(measured)
            weights += weight
    return min(1.0, total / weights)


def summarise(hands: list[HandMeasures], config: ScoresConfig) -> HandScore:
    """One candidate's hands -> its score. Components are means with the score's own weights by hand size."""
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
    scores = [hand_score(hand, config) for hand in scored]
    components = {
        name: _number(
            measures.mean_of_found(np.array([getattr(hand, name) for hand in scored], np.float64), weights=weights)
        )
        for name in ScoreComponents.model_fields
    }
    return HandScore(
        score=round(float(np.average(scores, weights=weights)), 5),
        unscorable=None,
        components=ScoreComponents(**components),
        good_frames=sum(score >= config.good_hand for score in scores) / len(scores),
        hands=tuple(hands),
    )


def _unscorable(
    guide: measures.Floats, size: measures.Floats, driving: PoseSequence, config: ScoresConfig
) -> list[str | None]:
    """Per frame: why the driving hand can't be a yardstick, or None where it can."""
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
    """``no hand can be scored: of 18, 12 not found in the driving video, 6 smaller than 16 pixels``."""
    counts = Counter(hand.unscorable for hand in hands)
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items(), key=lambda item: -item[1]))
    return f"no hand can be scored: of {len(hands)}, {listed}"


def _number(value: float | np.floating | np.ndarray) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None
