"""The interface of all pose backends. The backends lie beside this file and load their weights on first use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ipa_core.records import Box, ConfidenceSource, PoseSequence


@dataclass(frozen=True)
class PersonBox:
    """One person in one picture: the box of the body points and the detection's confidence in [0, 1]."""

    box: Box
    confidence: float


class PoseExtractor(Protocol):
    """Finds people and their keypoints. Pictures are uint8 RGB; keypoints as :class:`PoseSequence` defines them."""

    backend: str
    hand_confidence: ConfidenceSource

    def weights(self) -> dict[str, str]:
        """Return the path of each weight file by a short name. The files' digests enter the action key."""

    def find_people(self, picture: np.ndarray) -> list[PersonBox]:
        """Return all people of one picture ``[H, W, 3]``, largest first."""

    def extract(self, frames: np.ndarray) -> PoseSequence:
        """Find the main person of ``frames [T, H, W, 3]``. Raises ``Rejected``: no person, too small, in few frames."""

    def extract_hands(self, frames: np.ndarray, guide: PoseSequence) -> PoseSequence:
        """Find only the hands, near the wrists and elbows of ``guide``; all other confidences are 0.

        This is for generated videos, whose body follows the guide's. A hand that is not found has confidence 0, but a
        backend with hand presence reports the presence on the crop. Never raises ``Rejected``.
        """

    def close(self) -> None:
        """Free the models."""
