"""A small network that compares a candidate's hand with the driving hand: are the same fingers there?

Keypoint detectors draw five fingers into any hand. The first network (scoring.fingers) looks at one picture and has to
know how whole hands look. This one sees both hands, so it compares: both upright crops pass through the same first
layers, and the rest sees both results, their difference, and the driving hand's skeleton with one channel per finger.
It is trained on pairs whose pictures differ in all that does not matter, and half of which have a fault
(``ipa lab score train``). docs/finger-network.md says how well it tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from ipa_core.config import NEWEST_SCORE
from ipa_core.keypoints import FINGERS
from ipa_core.scoring.crops import SIZE, cut, moved, placed, skeleton
from ipa_core.scoring.fingers import one_thread
from ipa_core.scoring.quality import FINGER_WEIGHTS

Place = Callable[[np.ndarray, float], np.ndarray]
"""`crops.placed`, or `crops.placed_by_box` for version 2 of the score."""
CHANNELS: Final = 3 + len(FINGERS)
SKELETON_STEP: Final = 4
"""Pixels of the crop per pixel of the skeleton that the network sees."""
CELLS: Final = 16
"""Cells along a side of the map that says where a fault is."""
WIDTHS: Final = (16, 16, 40, 64, 96)
_AT_ONCE: Final = 64
SURE: Final = 1.0
"""Largest logit. A hand that is surely whole is not better when its picture is cleaner."""


def crop(picture: np.ndarray, points: np.ndarray, size: float, place: Place = placed) -> np.ndarray:
    """Return uint8 ``[SIZE, SIZE, 8]``: the RGB picture around the hand's 21 points, turned so that the hand points
    up, and its skeleton, one channel per finger. ``size``: size of the hand in pixels."""
    matrix = place(points, size)
    return np.concatenate([cut(picture, matrix), skeleton(moved(points, matrix))], axis=2)


class FingerPairNetwork(nn.Module):
    """Maps two pictures float32 ``[N, 6, SIZE, SIZE]`` (candidate, driving) and the driving skeleton
    ``[N, 5, SIZE / 4, SIZE / 4]``, all in [0, 1], to logits ``[N]``: high when the candidate's hand has the fingers of
    the driving hand."""

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        stem, look, joined, middle, last = widths
        self.look = nn.Sequential(_conv(3, stem, 5, 2), _conv(stem, look, 3, 2), Residual(look))
        self.join = _conv(3 * look + len(FINGERS), joined, 1, 1)
        self.place = nn.Sequential(_conv(joined, middle, 3, 2), Residual(middle))
        self.fault = nn.Conv2d(middle, 1, 1)
        self.judge = nn.Sequential(_conv(middle + 1, last, 3, 2), Residual(last))
        self.head = nn.Linear(2 * last, 1)

    def forward(self, pictures: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        return self.both(pictures, drawn)[0]

    def both(self, pictures: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits ``[N]``, and a map ``[N, CELLS, CELLS]`` of logits, high where a fault is. Training teaches
        the map too: it learns from every cell where it looks, and that is much faster."""
        count = len(pictures)
        both = self.look(torch.cat([pictures[:, :3], pictures[:, 3:]]))
        ours, theirs = both[:count], both[count:]
        seen = self.place(self.join(torch.cat([ours, theirs, (ours - theirs).abs(), drawn], dim=1)))
        faults = self.fault(seen)
        seen = self.judge(torch.cat([seen, faults], dim=1))
        # Pool over the crop: a wrong finger counts in every position.
        answer = self.head(torch.cat([seen.amax(dim=(2, 3)), seen.mean(dim=(2, 3))], dim=1))[:, 0]
        return answer, faults[:, 0]


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width, 3, 1)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return F.relu(seen + self.second(self.first(seen)))


def _conv(inputs: int, outputs: int, side: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class FingerPairInspector:
    """The trained network on one CPU thread."""

    def __init__(self, weights: Path = FINGER_WEIGHTS[NEWEST_SCORE], place: Place = placed) -> None:
        self._place = place
        self._network = FingerPairNetwork()
        self._network.load_state_dict(load_file(weights))
        self._network.eval()

    def crop(self, picture: np.ndarray, points: np.ndarray, size: float) -> np.ndarray:
        return crop(picture, points, size, self._place)

    def compare(self, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> np.ndarray:
        """Return how surely each candidate's hand is as whole as the driving hand, ``[N]`` in logits of at most SURE.
        Both are crops of :func:`crop`, the candidate's and the driving video's of the same moments."""
        if not len(ours):
            return np.zeros(0)
        pictures = np.concatenate([np.stack(ours)[..., :3], np.stack(theirs)[..., :3]], axis=3)
        drawn = pooled(np.stack(theirs)[..., 3:])
        return self.of_pairs(pictures, drawn)

    @torch.inference_mode()
    def of_pairs(self, pictures: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Return what :meth:`compare` returns, for pictures uint8 ``[N, SIZE, SIZE, 6]`` and pooled skeletons."""
        with one_thread():
            answers = [
                self._of_both(as_input(pictures[start : start + _AT_ONCE]), as_input(drawn[start : start + _AT_ONCE]))
                for start in range(0, len(pictures), _AT_ONCE)
            ]
        return np.minimum(np.concatenate(answers).astype(np.float64), SURE)

    def _of_both(self, pictures: torch.Tensor, drawn: torch.Tensor) -> np.ndarray:
        """Return the mean logits of the pairs and of their mirror images, whose errors are others."""
        plain: torch.Tensor = self._network(pictures, drawn)
        mirrored: torch.Tensor = self._network(pictures.flip(3), drawn.flip(3))
        return ((plain + mirrored) / 2).numpy()


def pooled(drawn: np.ndarray) -> np.ndarray:
    """Shrink skeletons uint8 ``[N, SIZE, SIZE, 5]`` to what the network sees, uint8 ``[N, SIZE / 4, SIZE / 4, 5]``."""
    count, side = len(drawn), SIZE // SKELETON_STEP
    parts = drawn.reshape(count, side, SKELETON_STEP, side, SKELETON_STEP, -1)
    return parts.mean(axis=(2, 4), dtype=np.float32).astype(np.uint8)


def as_input(pictures: np.ndarray) -> torch.Tensor:
    """Convert uint8 ``[N, H, W, C]`` to float32 ``[N, C, H, W]`` in [0, 1]; in memory the channels stay last."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
