"""Find people by Ultralytics' YOLO-pose: fast and sure about persons, 17 body points, no hands.

Ultralytics is AGPL-3.0 and therefore an extra (``pip install 'ipa-pipeline[ultralytics]'``).
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
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

LEAST_CONFIDENCE: Final = 0.25
"""Least confidence of a detection."""
OFFLINE: Final = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}


class UltralyticsExtractor:
    """A :class:`~ipa_core.pose.PoseExtractor` whose hands are always unknown.

    ``poses.model`` is a ``.pt`` or ``.onnx`` file of a YOLO-pose model, or a ``.yaml`` architecture, which gets random
    weights. A ``.pt`` is a pickle: use only files that you trust.
    """

    backend = "ultralytics"
    hand_confidence: ConfidenceSource = "model"

    def __init__(self, config: PosesConfig) -> None:
        if config.model is None or not Path(config.model).is_file():
            raise ConfigError(
                f"the ultralytics backend needs poses.model, the file of a YOLO-pose model such as yolo11n-pose.pt; "
                f"got {config.model}"
            )
        if importlib.util.find_spec("ultralytics") is None:
            raise ConfigError("the ultralytics backend needs the extra [ultralytics]: ultralytics is not installed")
        self._config = config
        self._path = config.model

    def weights(self) -> dict[str, str]:
        return {Path(self._path).name: self._path}

    def find_people(self, picture: np.ndarray) -> list[PersonBox]:
        return people.boxes(self._people(picture))

    def extract(self, frames: np.ndarray) -> PoseSequence:
        height, width = frames.shape[1:3]
        chosen = people.main_person([self._people(frame) for frame in frames], self._config, height)
        return people.sequence(chosen, width, height, self.hand_confidence, self.backend)

    def extract_hands(self, frames: np.ndarray, guide: PoseSequence) -> PoseSequence:
        height, width = frames.shape[1:3]
        return people.sequence([None] * len(frames), width, height, self.hand_confidence, self.backend)

    def close(self) -> None:
        self.__dict__.pop("_model", None)

    def _people(self, picture: np.ndarray) -> list[Person]:
        height, width = picture.shape[:2]
        blue_first = np.ascontiguousarray(picture[..., ::-1])
        (result,) = self._model.predict(blue_first, conf=LEAST_CONFIDENCE, device="cpu", verbose=False)
        found = []
        for points in result.keypoints.data.numpy():
            keypoints, confidence = np.zeros((kp.COUNT, 2), np.float32), np.zeros(kp.COUNT, np.float32)
            keypoints[kp.BODY] = points[:, :2]
            # YOLO writes unsure points as 0, 0.
            confidence[kp.BODY] = np.where(points[:, :2].any(axis=1), points[:, 2], 0)
            found.append(people.person(keypoints, confidence, width, height))
        return people.distinct([one for one in found if one is not None])

    @cached_property
    def _model(self) -> Any:
        # ultralytics reads these at import. Without them it looks for newer versions and installs missing packages.
        os.environ.update(OFFLINE)
        os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(tempfile.gettempdir()) / "ipa-ultralytics"))
        Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)
        import torch
        from ultralytics import YOLO

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # architectures without weights get random ones
            return YOLO(self._path, task="pose", verbose=False)
