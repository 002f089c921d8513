"""Find all 133 points by DWPose through rtmlib: a person detector (YOLOX) and a whole-body network, both as ONNX.

The backend is an extra (``pip install 'ipa-pipeline[dwpose]'``). Source: Yang et al., "Effective Whole-body Pose
Estimation with Two-stages Distillation" (ICCVW 2023). The models are published as ``yzd-v/DWPose``.
"""

from __future__ import annotations

import importlib.util
import io
from contextlib import redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from ipa_core import keypoints as kp
from ipa_core.config import ConfigError, PosesConfig
from ipa_core.pose import people
from ipa_core.pose.extractor import PersonBox
from ipa_core.pose.people import Person
from ipa_core.records import ConfidenceSource, PoseSequence

DETECTOR: Final = "yolox_l.onnx"
WHOLE_BODY: Final = "dw-ll_ucoco_384.onnx"
LEAST_CONFIDENCE: Final = 0.3
"""Least confidence of a detection."""
GUIDE_MARGIN: Final = 0.1
"""Margin around the guide's points in sizes of their box. The person of a generated picture is searched there."""


class DWPoseExtractor:
    """A :class:`~ipa_core.pose.PoseExtractor`. ``poses.model`` is the folder with both ONNX files."""

    backend = "dwpose"
    hand_confidence: ConfidenceSource = "model"

    def __init__(self, config: PosesConfig) -> None:
        self._config = config
        folder = Path(config.model or "")
        missing = [name for name in (DETECTOR, WHOLE_BODY) if not (folder / name).is_file()]
        if config.model is None or missing:
            raise ConfigError(
                f"the dwpose backend needs poses.model, a folder with {DETECTOR} and {WHOLE_BODY} "
                f"(published as yzd-v/DWPose); got {config.model}"
            )
        if importlib.util.find_spec("rtmlib") is None:
            raise ConfigError("the dwpose backend needs the extra [dwpose]: rtmlib is not installed")
        self._folder = folder

    def weights(self) -> dict[str, str]:
        return {name: str(self._folder / name) for name in (DETECTOR, WHOLE_BODY)}

    def find_people(self, picture: np.ndarray) -> list[PersonBox]:
        return people.boxes(self._people(picture))

    def extract(self, frames: np.ndarray) -> PoseSequence:
        height, width = frames.shape[1:3]
        chosen = people.main_person([self._people(frame) for frame in frames], self._config, height)
        pose = people.sequence(chosen, width, height, self.hand_confidence, self.backend)
        for hand in kp.HANDS.values():
            unsure = pose.confidence[:, hand].mean(axis=1) < self._config.min_hand_confidence
            pose.confidence[unsure, hand], pose.keypoints[unsure, hand] = 0, 0
        return pose

    def extract_hands(self, frames: np.ndarray, guide: PoseSequence) -> PoseSequence:
        height, width = frames.shape[1:3]
        found: list[Person | None] = []
        for frame, points, confidence in zip(frames, guide.keypoints, guide.confidence, strict=True):
            known = points[confidence > 0]
            found.append(None if len(known) < people.LEAST_POINTS else self._person_around(frame, known))
        pose = people.sequence(found, width, height, self.hand_confidence, self.backend)
        pose.confidence[:, : kp.LEFT_HAND.start], pose.keypoints[:, : kp.LEFT_HAND.start] = 0, 0
        return pose

    def close(self) -> None:
        for name in ("_detector", "_whole_body"):
            self.__dict__.pop(name, None)

    def _person_around(self, picture: np.ndarray, points: np.ndarray) -> Person | None:
        low, high = points.min(axis=0), points.max(axis=0)
        margin = GUIDE_MARGIN * float((high - low).max())
        return next(iter(self._people_in(picture, np.array([[*(low - margin), *(high + margin)]]))), None)

    def _people(self, picture: np.ndarray) -> list[Person]:
        corners = self._detector(np.ascontiguousarray(picture[..., ::-1]))
        return people.distinct(self._people_in(picture, corners)) if len(corners) else []

    def _people_in(self, picture: np.ndarray, corners: np.ndarray) -> list[Person]:
        """Find the people in ``corners [N, 4]``: left, top, right, bottom of each person."""
        height, width = picture.shape[:2]
        points, sure = self._whole_body(np.ascontiguousarray(picture[..., ::-1]), bboxes=corners)
        confidence = sure.clip(0, 1).astype(np.float32)
        found = [people.person(*one, width, height) for one in zip(points.astype(np.float32), confidence, strict=True)]
        return [one for one in found if one is not None]

    @cached_property
    def _detector(self) -> Any:
        from rtmlib import YOLOX

        return _sized(YOLOX, self._folder / DETECTOR, score_thr=LEAST_CONFIDENCE)

    @cached_property
    def _whole_body(self) -> Any:
        from rtmlib import RTMPose

        tool = _sized(RTMPose, self._folder / WHOLE_BODY)
        tool.model_input_size = tool.model_input_size[::-1]  # width first here, height first in the detector
        return tool


def _sized(tool: Any, model: Path, **options: float) -> Any:
    """Make an rtmlib tool with the input size of its network ``[1, 3, H, W]``."""
    with redirect_stdout(io.StringIO()):  # rtmlib prints what it loads
        made = tool(str(model), **options)
    height, width = made.session.get_inputs()[0].shape[2:]
    made.model_input_size = (int(height), int(width))
    return made
