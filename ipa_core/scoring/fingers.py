"""A small network that sees whether a hand has the fingers of the driving hand.

Keypoint detectors draw five fingers into any hand, so erased, added and fused fingers do not change their numbers. This
network looks at the picture: an upright crop of the hand, and a drawing of the driving hand's skeleton with one channel
for the bones and one for the finger tips. The network can therefore compare and need not count. It is trained on
rendered hands and their corruptions only (``ipa lab score train``). docs/score-validity.md says how much it helps
there and on real footage.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from ipa_core.keypoints import FINGERS, HAND_BONES
from ipa_core.scoring.quality import FINGER_WEIGHTS

SIZE: Final = 64
"""Side of the crop in pixels."""
SCALE: Final = 1.6
"""Side of the crop in hand sizes."""
CHANNELS: Final = 5
AS_WHOLE: Final = 2.0
"""Logits of a hand just like the driving video's; they make 0.88."""
_ONE_THREAD: Final = threading.Lock()


def crop(picture: np.ndarray, points: np.ndarray, size: float) -> np.ndarray:
    """Return uint8 ``[SIZE, SIZE, 5]``: the RGB picture around the driving hand's 21 points, turned so that the hand
    points up, and a drawing of its bones and finger tips. ``size``: size of the hand in pixels."""
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = points[9] - points[0]
    length = max(float(np.hypot(x, y)), 1e-6)
    turn = np.array([[-y, x], [-x, -y]]) / length * SIZE / (SCALE * size)
    matrix = np.column_stack([turn, SIZE / 2 - turn @ ((low + high) / 2)])
    # cv2 counts from the centre of the first pixel, the keypoints from its corner.
    centred = np.column_stack([turn, matrix[:, 2] + turn @ (0.5, 0.5) - 0.5])
    seen = cv2.warpAffine(picture, centred, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.concatenate([seen, skeleton(points @ turn.T + matrix[:, 2])], axis=2)


def skeleton(points: np.ndarray) -> np.ndarray:
    """Draw bones and finger tips, each finger with its own brightness, as uint8 ``[SIZE, SIZE, 2]``."""
    places = np.round((points - 0.5) * 16).astype(np.int32)
    bones, tips = np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE), np.uint8)
    for number, (start, end) in enumerate(HAND_BONES):
        shade = 95 + 40 * (number // 4)
        cv2.line(bones, places[start].tolist(), places[end].tolist(), shade, 2, cv2.LINE_AA, shift=4)
    for number, finger in enumerate(FINGERS):
        cv2.circle(tips, places[finger[-1]].tolist(), 3 * 16, 95 + 40 * number, -1, cv2.LINE_AA, shift=4)
    return np.stack([bones, tips], axis=2)


class FingerNetwork(nn.Module):
    """Maps crops float32 ``[N, 5, SIZE, SIZE]`` in [0, 1] to logits ``[N]``, high for whole hands."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = CHANNELS
        for outputs in (width, 2 * width, 4 * width, 6 * width):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
                nn.Conv2d(outputs, outputs, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(2 * inputs, 1)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        # Pool over the crop: a wrong finger counts in every position.
        seen = self.trunk(crops)
        return self.head(torch.cat([seen.amax(dim=(2, 3)), seen.mean(dim=(2, 3))], dim=1))[:, 0]


class FingerInspector:
    """The trained network on one CPU thread."""

    def __init__(self, weights: Path = FINGER_WEIGHTS[1]) -> None:
        self._network = FingerNetwork()
        self._network.load_state_dict(load_file(weights))
        self._network.eval()

    crop = staticmethod(crop)

    @torch.inference_mode()
    def __call__(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Return for crops of :func:`crop` how surely each hand is whole, ``[N]`` in logits."""
        if not len(crops):
            return np.zeros(0)
        with one_thread():
            answer: Any = self._network(as_input(np.stack(crops)))
        return np.asarray(answer.numpy(), np.float64)

    def compare(self, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> np.ndarray:
        """Return how surely each candidate's hand is as whole as the driving hand, ``[N]`` in logits."""
        # The driving hand is the yardstick: it is whole, even if the network misjudges footage unlike its own.
        return self(ours) - self(theirs) + AS_WHOLE


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread."""
    # The number belongs to the process: two threads that set it at once would leave 1 for the animation model.
    with _ONE_THREAD:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def as_input(crops: np.ndarray) -> torch.Tensor:
    """Convert uint8 ``[N, SIZE, SIZE, 5]`` to float32 ``[N, 5, SIZE, SIZE]`` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2))).float() / 255
