"""MediaPipe's hand landmark network by itself: 21 points and the presence of a hand in any crop.

MediaPipe's Tasks API runs this network behind its palm detector and reports no presence. Scoring of generated hands
needs an answer also where the palm detector sees nothing, and the network by itself gives one.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import cv2
import numpy as np

INPUT_SIZE: Final = 224
ROI_POINTS: Final = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
"""Palm and lower finger joints. They span the region that MediaPipe cuts out for the network when it tracks a hand."""
ROI_SCALE: Final = 2.0
ROI_SHIFT: Final = 0.1
"""Shift of the region towards the finger tips, in heights of the box of ROI_POINTS."""


@dataclass(frozen=True, eq=False)
class Crop:
    """A square region of a picture, turned upright. ``matrix [2, 3]`` maps the picture's pixels to the crop's."""

    matrix: np.ndarray
    size: int

    @classmethod
    def square(cls, centre: np.ndarray, side: float, size: int, up: np.ndarray | None = None) -> Self:
        """Make ``size`` x ``size`` pixels of the square with this centre and side, turned so that ``up`` points up."""
        turn = np.eye(2)
        if up is not None and np.hypot(*up) > 0:
            x, y = up / np.hypot(*up)
            turn = np.array([[-y, x], [-x, -y]])
        linear = turn * size / max(side, 1e-6)
        return cls(np.column_stack([linear, size / 2 - linear @ centre]), size)

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """Return the crop's pixels. The edge pixels of the picture continue beyond it."""
        linear, shift = self.matrix[:, :2], self.matrix[:, 2]
        # cv2 counts from the centre of the first pixel, the keypoints from its corner.
        matrix = np.column_stack([linear, shift + linear @ (0.5, 0.5) - 0.5])
        return cv2.warpAffine(
            picture, matrix, (self.size, self.size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Map points ``[N, 2]`` of the crop to the picture."""
        return np.linalg.solve(self.matrix[:, :2], (points - self.matrix[:, 2]).T).T


@dataclass(frozen=True, eq=False)
class Hand:
    """``points [21, 2]`` in pixels of the picture; ``presence`` in [0, 1]."""

    points: np.ndarray
    presence: float


def hand_region(points: np.ndarray) -> Crop:
    """Return the region that MediaPipe would look at next after it tracked these 21 points."""
    up = (points[6] + points[14]) / 4 + points[10] / 2 - points[0]
    upright = Crop.square(np.zeros(2), 1.0, 1, up).matrix[:, :2]
    turned = points[list(ROI_POINTS)] @ upright.T
    low, high = turned.min(0), turned.max(0)
    centre = (low + high) / 2 - (0, ROI_SHIFT * (high - low)[1])
    return Crop.square(upright.T @ centre, float((high - low).max()) * ROI_SCALE, INPUT_SIZE, up)


class HandNetwork:
    """The network on one CPU thread; the same crop gives the same numbers."""

    def __init__(self, task: Path) -> None:
        """Load the network from ``task``, MediaPipe's hand_landmarker.task, which is a zip."""
        from ai_edge_litert.interpreter import Interpreter

        with zipfile.ZipFile(task) as archive:
            network = archive.read("hand_landmarks_detector.tflite")
        self._interpreter = Interpreter(model_content=network, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        outputs = {output["name"]: output["index"] for output in self._interpreter.get_output_details()}
        self._points, self._presence, self._side = outputs["Identity"], outputs["Identity_1"], outputs["Identity_2"]

    def hand(self, picture: np.ndarray, crop: Crop) -> Hand:
        """Find the hand in a crop (224 x 224) of the RGB picture ``[H, W, 3]``."""
        points, presence = self._run(crop.cut(picture))
        return Hand(crop.to_picture(points), presence)

    def presence(self, picture: np.ndarray, points: np.ndarray) -> float:
        """Return how sure the network is, in [0, 1], that a hand lies where the 21 points are.

        The value is the mean over their region and its mirror image, because the network knows left from right hands.
        Of all compared ways to cut out the region, this one separated rendered hands with known damage best.
        """
        crop = hand_region(points).cut(picture)
        return (self._run(crop)[1] + self._run(crop[:, ::-1])[1]) / 2

    def handedness(self, picture: np.ndarray, points: np.ndarray) -> float:
        """Return how sure the network is, in [0.5, 1], which hand lies there: MediaPipe's handedness score."""
        self._run(hand_region(points).cut(picture))
        right = float(self._interpreter.get_tensor(self._side).item())
        return max(right, 1 - right)

    def _run(self, crop: np.ndarray) -> tuple[np.ndarray, float]:
        self._interpreter.set_tensor(self._input, crop[None].astype(np.float32) / 255)
        self._interpreter.invoke()
        points = self._interpreter.get_tensor(self._points).reshape(21, 3)[:, :2]
        return points, float(self._interpreter.get_tensor(self._presence).item())
