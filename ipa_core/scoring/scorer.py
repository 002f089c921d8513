"""Score the hands of a candidate, and keep every component of the score.

The extractor that found the hands in the driving video finds them again in the candidate. Measures compare both
(scoring.measures, scoring.aligned, scoring.acuity), a small network looks at the fingers (scoring.fingers), and a
logistic regression makes one score (scoring.quality). The version of the coefficients says which measures are taken. A
hand that is in the driving video and not in the candidate is a bad hand, not a missing number. Means weight each hand
and frame by ``min(1, size / trusted_hand_size)``, because small hands have less sure landmarks.

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
from ipa_core.scoring import aligned, measures, quality
from ipa_core.scoring.acuity import acuity
from ipa_core.scoring.aligned import Similarity, where_to_look
from ipa_core.scoring.quality import QualityModel
from ipa_core.scoring.registration import SURE, registered
from ipa_core.scoring.yardstick import UNSCORABLE, unscorable

_LEAST_CONFIDENCE = 0.1
"""A hand of the candidate with less is not found: a hand network also places points where there is no hand."""


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
    """See ``scoring.fingers.FingerInspector`` and ``scoring.finger_pairs.FingerPairInspector``."""

    def crop(self, picture: np.ndarray, points: np.ndarray, size: float) -> np.ndarray: ...

    def compare(self, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> np.ndarray: ...


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
        hands = self.measure(video, driving_video, pose, driving, found)
        for side in reward:
            hands = _with(hands, side, "reward", dict(enumerate(reward[side])))
        return ScoredHands(summarise(hands, self._config, self._opinions.model), pose)

    def measure(
        self,
        video: np.ndarray,
        driving_video: np.ndarray,
        pose: PoseSequence,
        driving: PoseSequence,
        found: PoseSequence | None = None,
    ) -> list[HandMeasures]:
        """Measure the hands that were found in a candidate (``pose``), in the order of frames. ``found``: see
        :class:`HandScorer`; no sharpness is measured then."""
        # The driving video shows another person then, so the two pictures of a hand differ.
        alike = None if found is not None else driving_video
        version = self._opinions.model.version
        seen = [_look(version, video, alike, side, pose, driving, self._config) for side in HANDS]
        measured = _measures(version, video, alike, seen, self._config)
        hands = [hand for one, columns in zip(seen, measured, strict=True) for hand in _records(one, columns)]
        if self._opinions.fingers is not None:
            for one in seen:
                guides = (measures.hand_points(of, one.side) for of in (driving, found or driving))
                values = self._fingers(one, video, driving_video, *guides)
                hands = _with(hands, one.side, "fingers", values)
        return sorted(hands, key=lambda hand: (hand.frame, hand.side))

    def _fingers(
        self,
        seen: _Seen,
        video: np.ndarray,
        driving_video: np.ndarray,
        driving: measures.Floats,
        shown: measures.Floats,
    ) -> dict[int, float]:
        """``shown``: the points in the driving video, where the candidate's person was to have others (``driving``)."""
        known = np.asarray(np.isfinite(np.stack([driving, shown])).all(axis=(0, 2, 3)))
        frames = [frame for frame, reason in enumerate(seen.reasons) if reason is None and known[frame]]
        if not frames or self._opinions.fingers is None:
            return {}
        # The size of the clip, not of the frame: fingers that close don't make the hand smaller.
        size, shown_size = (float(np.percentile(measures.hand_size(of)[frames], 75)) for of in (driving, shown))
        places, scale = driving, np.ones(len(driving))
        if self._opinions.model.version > 1:
            places, scale = where_to_look(driving, seen.place, seen.size)
        judge = self._opinions.fingers
        ours = [judge.crop(video[frame], places[frame], size * scale[frame]) for frame in frames]
        theirs = [judge.crop(driving_video[frame], shown[frame], shown_size) for frame in frames]
        values = 1 / (1 + np.exp(-np.clip(judge.compare(ours, theirs), -30, 30)))
        return dict(zip(frames, values.tolist(), strict=True))


def _with(hands: list[HandMeasures], side: Side, name: str, values: Mapping[int, float]) -> list[HandMeasures]:
    """Fill in the measure ``name`` of a side's scorable hands by frame."""
    return [
        hand.model_copy(update={name: _number(values[hand.frame])})
        if hand.side == side and hand.unscorable is None and hand.frame in values
        else hand
        for hand in hands
    ]


@dataclass(frozen=True, eq=False)
class _Seen:
    """One hand in all frames. ``points`` (found in the candidate) and ``guide`` (the driving hand where it can be a
    yardstick) are ``[T, 21, 2]``, the others ``[T]``."""

    side: Side
    points: measures.Floats
    guide: measures.Floats
    size: measures.Floats
    confidence: measures.Floats
    presence: measures.Floats
    reasons: list[str | None]
    place: Similarity
    """Lays the driving hand upon the candidate's."""
    sway: measures.Floats


def _look(
    version: int,
    video: np.ndarray,
    driving_video: np.ndarray | None,
    side: Side,
    pose: PoseSequence,
    driving: PoseSequence,
    config: ScoresConfig,
) -> _Seen:
    guide = measures.hand_points(driving, side)
    size = measures.hand_size(guide)
    reasons = unscorable(guide, driving, config.min_hand_size)
    guide[[reason is not None for reason in reasons]] = np.nan
    confidence, usual = (one.confidence[:, HANDS[side]].astype(np.float64).mean(axis=1) for one in (pose, driving))
    points = measures.hand_points(pose, side)
    points[confidence < _LEAST_CONFIDENCE] = np.nan
    place = Similarity.between(guide, points)
    sway, presence = aligned.sway(place, size), np.clip(confidence / np.maximum(usual, 1e-6), 0, 1)
    if version > 2:
        laid = registered(video, driving_video, guide, place, size)
        place, sway = laid.place, laid.sway
        # A hand that looks like the driving one is there, whatever the detector says.
        presence = np.where(laid.agreed > SURE, 1, presence)
    return _Seen(side, points, guide, size, confidence, presence, reasons, place, sway)


def _measures(
    version: int, video: np.ndarray, driving_video: np.ndarray | None, seen: Sequence[_Seen], config: ScoresConfig
) -> list[dict[str, measures.Floats]]:
    """Return the measures of each hand by name, ``[T]``. Without the driving video no hand has a sharpness, and before
    version 3 a hand that was not found has none."""
    unknown = [np.full(len(video), np.nan)] * len(seen)
    if version == 1:
        sharpness = unknown
        if driving_video is not None:
            sharpness = [measures.relative_sharpness(video, driving_video, hand.guide) for hand in seen]
        columns = [measures.columns(hand.points, hand.guide, config.pck_radius) for hand in seen]
    else:
        places = [where_to_look(one.guide, one.place, one.size)[0] for one in seen]
        sharpness = unknown
        if driving_video is not None:
            sharpness = list(acuity(video, driving_video, places, [hand.guide for hand in seen]))
        columns = [
            aligned.columns(hand.points, hand.guide, config.pck_radius) | {"sway": hand.sway, "presence": hand.presence}
            for hand in seen
        ]
    return [
        of_hand | {"sharpness": sharp if version > 2 else np.where(measures.found(hand.points), sharp, np.nan)}
        for hand, of_hand, sharp in zip(seen, columns, sharpness, strict=True)
    ]


def _records(seen: _Seen, columns: Mapping[str, measures.Floats]) -> list[HandMeasures]:
    """Return one record per frame, with numbers rounded to five digits."""
    return [
        HandMeasures(
            frame=frame,
            side=seen.side,
            confidence=round(float(seen.confidence[frame]), 5),
            size=_number(seen.size[frame]),
            unscorable=reason,
            **{name: _number(column[frame]) for name, column in columns.items()},
        )
        for frame, reason in enumerate(seen.reasons)
    ]


def hand_score(hand: HandMeasures, config: ScoresConfig, model: QualityModel) -> float:
    """Return the score in [0, 1] of one scorable hand in one frame, as if the whole clip looked like this frame."""
    found = quality.seen([hand], [1.0], model.version)
    logit = model.logit(found.features()) + _second_opinion(found.mean.get("reward"), config)
    return quality.score_of(logit)


def summarise(hands: list[HandMeasures], config: ScoresConfig, model: QualityModel) -> HandScore:
    """Make the score of one candidate from its hands. Components are means weighted by hand size."""
    scored = [hand for hand in hands if hand.unscorable is None]
    if not scored:
        return HandScore.none(_why_none(hands), tuple(hands))
    weights = [min(1.0, hand.size / config.trusted_hand_size) for hand in scored if hand.size is not None]
    scores = [hand_score(hand, config, model) for hand in scored]
    components = {
        name: _number(
            measures.mean_of_found(np.array([getattr(hand, name) for hand in scored], np.float64), weights=weights)
        )
        for name in ScoreComponents.model_fields
    }
    found = quality.seen(scored, weights, model.version)
    opinion = _second_opinion(found.mean.get("reward"), config)
    logit = model.logit(found.features()) + opinion
    order = None if model.ceiling is None else round(model.order(found.features()) + opinion, 5)
    return HandScore(
        score=round(quality.score_of(logit), 5),
        unscorable=None,
        components=ScoreComponents(**components),
        # In the order in which the store returns a record, because tables of records are compared by their bytes.
        worst={name: round(found.worst[name], 5) for name in sorted(found.worst)},
        scorable=round(len(scored) / len(hands), 5),
        good_frames=sum(score >= config.good_hand for score in scores) / len(scores),
        hands=tuple(hands),
        order=order,
    )


def _second_opinion(reward: float | None, config: ScoresConfig) -> float:
    """Convert a reward to logits; one half is no opinion."""
    return 0.0 if reward is None else config.reward_weight * (reward - 0.5)


def _why_none(hands: list[HandMeasures]) -> str:
    """Return, say, ``no hand can be scored: of 18, 12 not found in the driving video, 6 smaller than 16 pixels``."""
    counts = Counter(hand.unscorable for hand in hands)
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items(), key=lambda item: -item[1]))
    return f"{UNSCORABLE}: of {len(hands)}, {listed}"


def _number(value: float | np.floating | np.ndarray) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None
