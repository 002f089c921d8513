"""MediaPipe on real people: clips of the pose2sim package (an extra of developers), portrait, hands of 32-79 pixels."""

import importlib.util
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ipa_core import keypoints as kp
from ipa_core import video
from ipa_core.config import PosesConfig
from ipa_core.pose.mediapipe import MediaPipeExtractor


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Every twelfth of 100 pictures of one person who moves both arms, the face blurred."""
    package = importlib.util.find_spec("Pose2Sim")
    if package is None or package.origin is None:
        pytest.skip("needs the package pose2sim (extra [dev])")
    path = Path(package.origin).parent / "Demo_SinglePerson" / "videos" / "cam02.mp4"
    return np.stack([frame.picture for frame in islice(video.frames(path), 0, None, 12)])


@pytest.mark.slow
def test_hands_of_a_real_person_are_found_in_most_frames(clip):
    extractor = MediaPipeExtractor(PosesConfig())
    pose = extractor.extract(clip)
    extractor.close()
    assert pose.confidence[:, kp.BODY].mean() > 0.8
    found = np.stack([pose.confidence[:, hand].min(1) > 0 for hand in kp.HANDS.values()])
    assert (found.mean(1) > 0.5).all()
    for side, hand in kp.HANDS.items():
        wrists = np.hypot(*(pose.keypoints[:, hand][:, 0] - pose.keypoints[:, kp.WRISTS[side]]).T)
        assert np.median(wrists[pose.confidence[:, hand.start] > 0]) < 0.03 * pose.height
