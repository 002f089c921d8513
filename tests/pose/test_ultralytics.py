from pathlib import Path

import numpy as np
import pytest

from ipa_core import keypoints as kp
from ipa_core.config import ConfigError, PosesConfig
from ipa_core.pose import ultralytics
from ipa_core.pose.ultralytics import UltralyticsExtractor
from ipa_core.records import Rejected


@pytest.fixture
def extractor(tmp_path, monkeypatch) -> UltralyticsExtractor:
    """A random network of the real architecture."""
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    pytest.importorskip("torchvision", reason="needs the extra [ultralytics]")
    package = Path(pytest.importorskip("ultralytics", reason="needs the extra [ultralytics]").__file__).parent
    architecture = tmp_path / "yolo11n-pose.yaml"
    architecture.write_text((package / "cfg/models/11/yolo11-pose.yaml").read_text())
    return UltralyticsExtractor(PosesConfig(backend="ultralytics", model=str(architecture), min_person_height=0))


@pytest.mark.parametrize("model", [None, "nowhere/yolo11n-pose.pt"])
def test_a_missing_model_is_named(model):
    with pytest.raises(ConfigError, match=r"needs poses\.model.*got (None|nowhere)"):
        UltralyticsExtractor(PosesConfig(backend="ultralytics", model=model))


def test_random_weights_see_nobody(extractor, person):
    assert extractor.find_people(person) == []
    with pytest.raises(Rejected, match="no person found"):
        extractor.extract(person[None])
    extractor.close()
    extractor.close()


def test_detections_become_poses_without_hands(extractor, person, monkeypatch):
    monkeypatch.setattr(ultralytics, "LEAST_CONFIDENCE", 1e-6)
    pose = extractor.extract(np.stack([person, person]))
    assert (len(pose), pose.width, pose.height, pose.backend) == (2, 96, 96, "ultralytics")
    assert pose.confidence[:, kp.BODY].any()
    assert pose.confidence.max() <= 1
    assert not pose.confidence[:, kp.BODY.stop :].any()
    assert not pose.keypoints[pose.confidence == 0].any()
    assert np.array_equal(pose.keypoints[0], pose.keypoints[1])
    assert not extractor.extract_hands(np.stack([person, person]), pose).confidence.any()
