import os
import subprocess
import sys
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from ipa_core import keypoints as kp
from ipa_core.config import ConfigError, PosesConfig
from ipa_core.pose.hand_network import INPUT_SIZE, Crop, hand_region
from ipa_core.pose.mediapipe import MediaPipeExtractor
from ipa_core.records import PoseSequence


@pytest.fixture(scope="module")
def extractor() -> Iterator[MediaPipeExtractor]:
    extractor = MediaPipeExtractor(PosesConfig())
    yield extractor
    extractor.close()


@pytest.fixture(scope="module")
def pose(extractor, person) -> PoseSequence:
    return extractor.extract(person[None])


def presence(pose: PoseSequence) -> np.ndarray:
    """[T, 2]: left, right."""
    return np.stack([pose.confidence[:, hand].mean(1) for hand in kp.HANDS.values()], 1)


def test_finds_both_hands_of_a_small_picture_on_their_sides(pose):
    wrists = pose.keypoints[0, [kp.LEFT_HAND.start, kp.RIGHT_HAND.start]]
    assert np.abs(wrists - [(76.0, 69.7), (13.6, 60.6)]).max() < 5
    assert presence(pose).min() > 0.9


def test_all_points_of_a_hand_share_its_presence(pose):
    for hand in kp.HANDS.values():
        assert np.ptp(pose.confidence[0, hand]) == 0


def test_a_guide_with_hands_gives_the_same_hands(extractor, person, pose):
    again = extractor.extract_hands(person[None], pose)
    for hand in kp.HANDS.values():
        assert np.abs(again.keypoints[0, hand] - pose.keypoints[0, hand]).mean() < 3
    assert presence(again) == pytest.approx(presence(pose), abs=0.05)


def test_a_guide_without_hands_is_enough(extractor, person, pose):
    confidence = pose.confidence.copy()
    confidence[:, kp.LEFT_HAND.start :] = 0
    arms = PoseSequence(pose.keypoints, confidence, 96, 96, "presence", "mediapipe")
    assert presence(extractor.extract_hands(person[None], arms)).min() > 0.9


def test_presence_falls_as_hands_blur(extractor, person, pose):
    frames = [person, *(cv2.GaussianBlur(person, (0, 0), sigma) for sigma in (1.5, 3.0))]
    guide = PoseSequence(pose.keypoints.repeat(3, 0), pose.confidence.repeat(3, 0), 96, 96, "presence", "mediapipe")
    sharp, soft, gone = presence(extractor.extract_hands(np.stack(frames), guide)).mean(1)
    assert sharp > soft > gone
    assert sharp > 0.9
    assert gone < 0.4


def test_a_hand_that_is_not_there_has_little_presence_and_is_not_rejected(extractor, person, pose):
    hands = extractor.extract_hands(np.full_like(person, 128)[None], pose)
    assert presence(hands).max() < 0.1


def test_unknown_arms_give_unknown_hands(extractor, person):
    nobody = PoseSequence(np.zeros((1, 133, 2)), np.zeros((1, 133)), 96, 96, "presence", "mediapipe")
    assert not extractor.extract_hands(person[None], nobody).confidence.any()


def test_hands_below_the_configured_presence_count_as_not_found(person):
    strict = MediaPipeExtractor(PosesConfig(min_hand_confidence=1.0))
    assert not presence(strict.extract(person[None])).any()
    strict.close()


@pytest.mark.parametrize("shape", [(96, 400), (400, 96)], ids=["wide", "tall"])
def test_a_long_picture_is_searched_in_squares(extractor, person, shape):
    picture = np.full((*shape, 3), 90, np.uint8)
    picture[-96:, -96:] = person
    assert len(extractor.find_people(picture)) == 1


def test_a_missing_model_file_is_named(tmp_path):
    extractor = MediaPipeExtractor(PosesConfig(model=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"there is no pose_landmarker_full\.task"):
        extractor.weights()


def test_usage_statistics_have_no_certificates_to_trust(extractor):
    assert extractor._task("hand_landmarker.task").to_ctypes().ca_bundle_path == os.devnull.encode()


def test_works_again_after_close(person):
    extractor = MediaPipeExtractor(PosesConfig())
    first = extractor.find_people(person)
    extractor.close()
    assert extractor.find_people(person) == first
    extractor.close()


def test_a_process_that_forgets_to_close_ends_quietly():
    code = """
import sys
import numpy as np
from ipa_core.config import ConfigError, PosesConfig
from ipa_core.pose.mediapipe import MediaPipeExtractor
assert "mediapipe" not in sys.modules
extractor = MediaPipeExtractor(PosesConfig())
assert "mediapipe" not in sys.modules
extractor.find_people(np.zeros((64, 64, 3), np.uint8))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_crop_and_back():
    crop = Crop.square(np.array([40.0, 50.0]), 30.0, 60, np.array([1.0, 2.0]))
    points = np.array([[40.0, 50.0], [43.0, 51.0]])
    inside = points @ crop.matrix[:, :2].T + crop.matrix[:, 2]
    assert inside[0] == pytest.approx([30, 30])
    assert crop.to_picture(inside) == pytest.approx(points)


def test_crop_turns_its_direction_up():
    crop = Crop.square(np.zeros(2), 10.0, 10, np.array([3.0, 4.0]))
    assert crop.matrix[:, :2] @ (3.0, 4.0) == pytest.approx([0, -5])


def test_upright_crop_of_whole_pixels_is_a_slice():
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    crop = Crop.square(np.array([12.0, 16.0]), 8.0, 8)
    assert np.array_equal(crop.cut(picture), picture[12:20, 8:16])


def test_hand_region_turns_with_the_hand(pose):
    points = pose.keypoints[0, kp.LEFT_HAND].astype(float)
    quarter = points @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    there, back = hand_region(points), hand_region(quarter)
    inside = [hand @ crop.matrix[:, :2].T + crop.matrix[:, 2] for hand, crop in ((points, there), (quarter, back))]
    assert inside[0] == pytest.approx(inside[1])
    assert ((inside[0] > 0) & (inside[0] < INPUT_SIZE)).all()
