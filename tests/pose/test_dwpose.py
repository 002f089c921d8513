import numpy as np
import pytest

from ipa_core import keypoints as kp
from ipa_core.config import ConfigError, PosesConfig
from ipa_core.pose.dwpose import DWPoseExtractor
from ipa_core.records import PoseSequence
from tests.pose.tiny_dwpose import BOX, PLACES, write_models


@pytest.fixture
def extractor(tmp_path) -> DWPoseExtractor:
    pytest.importorskip("rtmlib", reason="needs the extra [dwpose]")
    write_models(tmp_path)
    return DWPoseExtractor(PosesConfig(backend="dwpose", model=str(tmp_path), min_hand_confidence=0))


@pytest.mark.parametrize("with_folder", [False, True])
def test_missing_files_are_named(tmp_path, with_folder):
    config = PosesConfig(backend="dwpose", model=str(tmp_path) if with_folder else None)
    with pytest.raises(ConfigError, match=r"a folder with yolox_l\.onnx and dw-ll_ucoco_384\.onnx"):
        DWPoseExtractor(config)


def test_points_come_back_to_the_picture(extractor, person):
    pose = extractor.extract(person[None])
    # The box of the detector's 64 pixels on our 96, widened by a quarter; the network's input is 3 wide and 4 high.
    side = 1.25 * BOX * 96 / 64
    expected = 48 + (PLACES - 0.5) * (side, side * 4 / 3)
    assert np.abs(pose.keypoints[0] - expected).max() < 1.5


def test_hands_are_looked_for_where_the_guide_is(extractor, person):
    guide = extractor.extract(person[None])
    moved = PoseSequence(guide.keypoints + 7, guide.confidence, 96, 96, "model", "dwpose")
    here, there = (extractor.extract_hands(person[None], pose) for pose in (guide, moved))
    hands = slice(kp.LEFT_HAND.start, kp.RIGHT_HAND.stop)
    assert there.keypoints[:, hands] - here.keypoints[:, hands] == pytest.approx(7, abs=0.01)


def test_an_unknown_guide_gives_unknown_hands(extractor, person):
    nobody = PoseSequence(np.zeros((1, 133, 2)), np.zeros((1, 133)), 96, 96, "model", "dwpose")
    assert not extractor.extract_hands(person[None], nobody).confidence.any()
