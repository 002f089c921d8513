"""What every backend promises. DWPose runs on tiny networks, since its weights can't be had offline; Ultralytics, whose
random networks see nobody, has a test of its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ipa_core import keypoints as kp
from ipa_core.config import PosesConfig
from ipa_core.pose import PoseExtractor
from ipa_core.records import PoseSequence, Rejected


def mediapipe(folder: Path) -> PoseExtractor:
    from ipa_core.pose.mediapipe import MediaPipeExtractor

    return MediaPipeExtractor(PosesConfig())


def dwpose(folder: Path) -> PoseExtractor:
    pytest.importorskip("rtmlib", reason="needs the extra [dwpose]")
    from ipa_core.pose.dwpose import DWPoseExtractor
    from tests.pose.tiny_dwpose import write_models

    write_models(folder)
    return DWPoseExtractor(PosesConfig(backend="dwpose", model=str(folder)))


@pytest.fixture(scope="module", params=[mediapipe, dwpose], ids=lambda make: make.__name__)
def extractor(request, tmp_path_factory) -> Iterator[PoseExtractor]:
    extractor = request.param(tmp_path_factory.mktemp("weights"))
    yield extractor
    extractor.close()


@pytest.fixture(scope="module")
def clip(person) -> np.ndarray:
    return np.stack([person, person[:, ::-1], person])


@pytest.fixture(scope="module")
def pose(extractor, clip) -> PoseSequence:
    return extractor.extract(clip)


def check(pose: PoseSequence, extractor: PoseExtractor) -> None:
    assert pose.keypoints.dtype == pose.confidence.dtype == np.float32
    assert (pose.width, pose.height, len(pose)) == (96, 96, 3)
    assert pose.backend == extractor.backend
    assert pose.hand_confidence == extractor.hand_confidence
    assert np.isfinite(pose.keypoints).all()
    assert pose.confidence.min() >= 0
    assert pose.confidence.max() <= 1
    assert not pose.keypoints[pose.confidence == 0].any()


def test_pose_is_a_valid_record(extractor, pose):
    check(pose, extractor)
    assert (pose.confidence[:, kp.BODY].max(axis=1) > 0).all()
    assert PoseSequence.from_bytes(pose.to_bytes()).to_bytes() == pose.to_bytes()


def test_hands_alone_are_a_valid_record(extractor, clip, pose):
    hands = extractor.extract_hands(clip, pose)
    check(hands, extractor)
    assert not hands.confidence[:, : kp.LEFT_HAND.start].any()


def test_the_same_frames_give_the_same_pose(extractor, clip, pose):
    assert extractor.extract(clip).to_bytes() == pose.to_bytes()


def test_history_does_not_matter(extractor, clip, pose):
    extractor.extract_hands(clip[:, ::-1], pose)
    assert extractor.extract(clip).to_bytes() == pose.to_bytes()


def test_finds_the_person(extractor, person):
    (found,) = extractor.find_people(person)
    assert 0 < found.confidence <= 1
    assert found.box.height > 30


def test_an_empty_picture_has_no_people(extractor):
    assert extractor.find_people(np.zeros((96, 64, 3), np.uint8)) == []


def test_a_clip_without_a_person_is_rejected(extractor):
    with pytest.raises(Rejected, match="no person found"):
        extractor.extract(np.zeros((2, 96, 96, 3), np.uint8))


def test_weights_are_files(extractor):
    weights = extractor.weights()
    assert weights
    assert all(Path(path).is_file() for path in weights.values())


def test_closing_twice_is_harmless(extractor):
    extractor.close()
    extractor.close()
