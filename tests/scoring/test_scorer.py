from __future__ import annotations

import cv2
import numpy as np
import pytest

from ipa_core.config import ScoresConfig
from ipa_core.keypoints import HANDS
from ipa_core.records import HandMeasures, HandScore, PoseSequence
from ipa_core.scoring import KeypointHandScorer, Opinions, QualityModel
from ipa_core.scoring.quality import feature_names
from ipa_core.scoring.scorer import hand_score
from ipa_core.scoring.yardstick import NOT_FOUND, OUT_OF_PICTURE
from tests.scoring.hands import FRAMES, WIDTH, KnownHands, moving_hands, pose_of, video_of

CONFIG = ScoresConfig()
DRIVING = moving_hands()
FEATURES = feature_names(1)
MODEL = QualityModel(
    bias=-10.0,
    weights={name: 1.0 for name in FEATURES if "fingers" not in name},
    typical=dict.fromkeys(FEATURES, 0.9),
    recipe={},
)
"""Every component counts the same, so that the tests don't hang on what was fitted."""


def score(
    found: PoseSequence,
    driving: PoseSequence | None = None,
    video: np.ndarray | None = None,
    config: ScoresConfig = CONFIG,
) -> HandScore:
    driving_video = video_of(DRIVING)
    candidate = driving_video if video is None else video
    scorer = KeypointHandScorer(KnownHands(found), config, Opinions(MODEL))
    return scorer.score(candidate, driving_video, driving or pose_of(DRIVING)).score


def shaken(amount: float) -> PoseSequence:
    rng = np.random.default_rng(7)
    return pose_of({side: points + rng.normal(0, amount, points.shape) for side, points in DRIVING.items()})


def without(side: str, pose: PoseSequence) -> PoseSequence:
    keypoints, confidence = pose.keypoints.copy(), pose.confidence.copy()
    keypoints[:, HANDS[side]] = confidence[:, HANDS[side]] = 0
    return PoseSequence(keypoints, confidence, pose.width, pose.height, "presence", "stand-in")


def test_a_perfect_copy_loses_only_by_its_confidence() -> None:
    result = score(pose_of(DRIVING, confidence=0.9))
    others = [value for name, value in result.worst.items() if name != "confidence"]
    assert others == [1.0] * len(others)
    assert result.worst["confidence"] == pytest.approx(0.9)
    assert result.good_frames == 1.0


def test_noise_scores_lower_the_more_there_is() -> None:
    scores = [score(shaken(amount)).score for amount in (0, 2, 6, 20)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.5 < scores[1]


def test_a_missing_hand_is_a_bad_hand_not_an_unscorable_one() -> None:
    result = score(without("left", pose_of(DRIVING)))
    left = [hand for hand in result.hands if hand.side == "left"]
    assert [hand.unscorable for hand in left] == [None] * FRAMES
    assert max(hand_score(hand, CONFIG, MODEL) for hand in left) < 0.05
    assert result.good_frames == 0.5


def test_points_of_hardly_any_confidence_are_no_hand() -> None:
    result = score(pose_of(DRIVING, confidence=0.05))
    assert {hand.pck for hand in result.hands} == {0.0}
    assert result.worst["error"] == 0.0


def test_a_blurred_hand_scores_lower() -> None:
    blurred = np.stack([cv2.GaussianBlur(picture, (0, 0), 3) for picture in video_of(DRIVING)])
    assert score(pose_of(DRIVING), video=blurred).score < score(pose_of(DRIVING)).score


def test_tiny_hands_are_unscorable_with_a_reason() -> None:
    tiny = pose_of(moving_hands(size=12.0))
    result = score(tiny, tiny)
    assert result.score is None
    assert result.good_frames is None
    assert result.unscorable == "no hand can be scored: of 10, 10 smaller than 16 pixels"


def test_a_hand_not_in_the_driving_video_is_left_out() -> None:
    result = score(pose_of(DRIVING), without("right", pose_of(DRIVING)))
    assert {hand.unscorable for hand in result.hands if hand.side == "right"} == {NOT_FOUND}
    assert result.score == score(pose_of(DRIVING)).score


def test_a_hand_leaving_the_picture_is_left_out() -> None:
    leaving = {"left": DRIVING["left"] + (WIDTH - 110.0, 0.0)}
    result = score(pose_of(leaving), pose_of(leaving))
    assert {hand.unscorable for hand in result.hands if hand.side == "left"} == {OUT_OF_PICTURE}


def test_nothing_to_score_counts_its_reasons() -> None:
    half = {"left": DRIVING["left"] + (WIDTH, 0.0)}
    reason = score(pose_of(half), pose_of(half)).unscorable
    assert reason == "no hand can be scored: of 10, 5 out of the picture, 5 not found in the driving video"


def test_small_hands_count_less() -> None:
    mixed = {"left": moving_hands(40.0)["left"], "right": moving_hands(16.0)["right"]}
    result = score(without("right", pose_of(mixed, confidence=0.9)), pose_of(mixed))
    assert result.components.confidence == pytest.approx(0.9 / 1.5, abs=1e-4)


def test_what_is_missing_is_taken_as_usual_not_as_zero() -> None:
    hand = HandMeasures(
        frame=0,
        side="left",
        confidence=0.8,
        size=40,
        pck=1.0,
        error=0.1,
        bone_consistency=None,
        jitter=None,
        sharpness=None,
    )
    usual = hand.model_copy(update={"bone_consistency": 0.9})
    assert hand_score(hand.model_copy(update={"bone_consistency": 0.0}), CONFIG, MODEL) < hand_score(
        hand, CONFIG, MODEL
    )
    alone = QualityModel(
        bias=0.0, weights={"mean bone_consistency": 1.0}, typical={"mean bone_consistency": 0.9}, recipe={}
    )
    assert hand_score(hand, CONFIG, alone) == hand_score(usual, CONFIG, alone)


def test_a_hand_that_collapses_for_five_frames_is_worse_than_one_a_little_off_throughout() -> None:
    driving = moving_hands(frames=25)
    off = {side: points + np.array([1.6, 0.0]) for side, points in driving.items()}
    collapsed = {side: points.copy() for side, points in driving.items()}
    collapsed["left"][10:15] += (12.0, 0.0)
    scorer = [KeypointHandScorer(KnownHands(pose_of(hands)), CONFIG, Opinions(MODEL)) for hands in (off, collapsed)]
    video = video_of(driving)
    little, worse = (one.score(video, video, pose_of(driving)).score for one in scorer)
    assert worse.components.error < 1.2 * little.components.error
    assert worse.score < little.score


def test_a_reward_is_a_component_and_moves_the_score() -> None:
    def opinion(value: float) -> HandScore:
        given = {side: np.full(FRAMES, value) for side in HANDS}
        scorer = KeypointHandScorer(
            KnownHands(pose_of(DRIVING)), CONFIG, Opinions(MODEL, reward=lambda video, driving_video, driving: given)
        )
        return scorer.score(video_of(DRIVING), video_of(DRIVING), pose_of(DRIVING)).score

    low, high = opinion(0.1), opinion(0.9)
    assert (low.components.reward, high.components.reward) == (0.1, 0.9)
    assert low.score < high.score


def test_one_frame_can_be_scored() -> None:
    one = {side: points[:1] for side, points in DRIVING.items()}
    scorer = KeypointHandScorer(KnownHands(pose_of(one)), CONFIG, Opinions(MODEL))
    result = scorer.score(video_of(one), video_of(one), pose_of(one)).score
    assert result.components.jitter is None
    assert result.score is not None


def test_the_pose_that_was_found_comes_back() -> None:
    found = pose_of(DRIVING)
    scorer = KeypointHandScorer(KnownHands(found), CONFIG, Opinions(MODEL))
    assert scorer.score(video_of(DRIVING), video_of(DRIVING), pose_of(DRIVING)).pose is found


def test_videos_of_different_length_are_refused() -> None:
    scorer = KeypointHandScorer(KnownHands(pose_of(DRIVING)), CONFIG, Opinions(MODEL))
    with pytest.raises(ValueError, match="one size and length"):
        scorer.score(video_of(DRIVING)[:-1], video_of(DRIVING), pose_of(DRIVING))


def test_a_score_survives_json() -> None:
    result = score(shaken(3))
    assert HandScore.model_validate_json(result.model_dump_json()) == result


def test_golden_score() -> None:
    """When this fails because scores changed on purpose, the version of the stage `scores` goes up as well."""
    result = score(shaken(3))
    assert result.score == pytest.approx(0.63821, abs=2e-5)
    assert result.components.model_dump(exclude_none=True) == pytest.approx(
        {
            "confidence": 0.9,
            "size": 40.0,
            "pck": 0.99048,
            "error": 0.08735,
            "bone_consistency": 0.58151,
            "jitter": 0.197,
            "sharpness": 1.0,
            "wrist_distance": 0.07962,
            "palm_agreement": 0.64518,
            "plausibility": 0.375,
        },
        abs=2e-5,
    )


def shifted(pose: PoseSequence, pixels: float) -> PoseSequence:
    keypoints = np.where(pose.confidence[..., None] > 0, pose.keypoints + np.float32([pixels, 0]), 0)
    return PoseSequence(keypoints.astype(np.float32), pose.confidence, pose.width, pose.height, "presence", "stand-in")


def of_another(driving: PoseSequence, video: np.ndarray) -> HandScore:
    """The score of someone else who moves as ``driving`` says, exactly."""
    scorer = KeypointHandScorer(KnownHands(driving), CONFIG, Opinions(MODEL))
    return scorer.score(video, video_of(DRIVING), driving, found=pose_of(DRIVING)).score


def test_another_person_is_judged_by_the_motion_and_not_by_the_sharpness() -> None:
    blurred = np.stack([cv2.GaussianBlur(picture, (0, 0), 3) for picture in video_of(DRIVING)])
    result = of_another(pose_of(DRIVING), blurred)
    assert result.components.sharpness is None
    assert result.score == of_another(pose_of(DRIVING), video_of(DRIVING)).score


def test_another_persons_hands_are_compared_with_where_that_person_should_have_them() -> None:
    driving = shifted(pose_of(DRIVING), 12)
    assert of_another(driving, video_of(DRIVING)).components.pck == 1.0


def test_another_persons_fingers_are_compared_with_the_driving_hand_in_its_own_place() -> None:
    places: list[np.ndarray] = []

    class Fingers:
        def crop(self, picture: np.ndarray, points: np.ndarray, size: float) -> np.ndarray:
            places.append(points[0])
            return picture

        def compare(self, ours: object, theirs: object) -> np.ndarray:
            return np.zeros(FRAMES)

    driving = shifted(pose_of(DRIVING), 12)
    scorer = KeypointHandScorer(KnownHands(driving), CONFIG, Opinions(MODEL, Fingers()))
    scorer.score(video_of(DRIVING), video_of(DRIVING), driving, found=pose_of(DRIVING))
    ours, theirs = np.array(places[:FRAMES]), np.array(places[FRAMES : 2 * FRAMES])
    np.testing.assert_allclose(ours - theirs, np.broadcast_to([12, 0], ours.shape), atol=1e-3)
