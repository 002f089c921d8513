"""Differences between a driving video and a faultless animation of it, which a hand score must not see.

A nuisance takes a video and the points of its hands and changes something that makes no hand worse: a codec, colours,
grain, the camera's place. Its strength follows from the seed. ``ipa lab score fit`` puts nuisances into the faultless
and into the spoilt videos, and docs/score-validity.md has a row for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ipa_core.scoring.harmless import as_h264, as_jpeg

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scene:
    """frames: uint8 RGB ``[T, H, W, 3]``; hands: points ``[T, 21, 2]`` of each hand, NaN where it is not known."""

    frames: np.ndarray
    hands: Sequence[Points]
    rng: np.random.Generator

    def sign(self) -> float:
        return 1.0 if self.rng.random() < 0.5 else -1.0


def disturb(name: str, frames: np.ndarray, hands: Sequence[Points], seed: int) -> np.ndarray:
    """Return ``frames`` with one of ``NUISANCES``; the result follows from the arguments alone."""
    rng = np.random.default_rng([seed, *name.encode()])
    return NUISANCES[name](Scene(frames, hands, rng))


def _jpeg(scene: Scene) -> np.ndarray:
    return as_jpeg(scene.frames, int(scene.rng.integers(50, 90)))


def _h264(scene: Scene) -> np.ndarray:
    return as_h264(scene.frames, int(scene.rng.integers(20, 31)))


def _brightness(scene: Scene) -> np.ndarray:
    return _bytes(scene.frames * (1 + scene.sign() * scene.rng.uniform(0.08, 0.2)))


def _gamma(scene: Scene) -> np.ndarray:
    power = scene.rng.uniform(1.15, 1.35) ** scene.sign()
    return _bytes(255 * (scene.frames / 255.0) ** power)


def _white_balance(scene: Scene) -> np.ndarray:
    warm = scene.sign() * scene.rng.uniform(0.05, 0.15)
    return _bytes(scene.frames * np.array([1 + warm, 1.0, 1 - warm]))


def _grain(scene: Scene) -> np.ndarray:
    return _bytes(scene.frames + scene.rng.normal(0, scene.rng.uniform(2, 5), scene.frames.shape))


def _softness(scene: Scene) -> np.ndarray:
    sigma = scene.rng.uniform(0.4, 0.9) * max(1.0, scene.frames.shape[1] / 384)
    return np.stack([cv2.GaussianBlur(picture, (0, 0), sigma) for picture in scene.frames])


def _moved(pixels: float) -> Callable[[Scene], np.ndarray]:
    """The whole picture moved in some direction, as by a camera that stands elsewhere."""

    def move(scene: Scene) -> np.ndarray:
        turn = scene.rng.uniform(0, 2 * np.pi)
        change = np.column_stack([np.eye(2), pixels * np.array([np.cos(turn), np.sin(turn)])])
        return _warped(scene.frames, change)

    return move


def _scale(scene: Scene) -> np.ndarray:
    height, width = scene.frames.shape[1:3]
    factor = 1 + scene.sign() * scene.rng.uniform(0.02, 0.05)
    return _warped(scene.frames, cv2.getRotationMatrix2D((width / 2, height / 2), 0, factor))


def _hand_shift(scene: Scene) -> np.ndarray:
    """Each hand some pixels beside the driving one; its arm bends along."""
    frames = scene.frames
    for points in scene.hands:
        known = np.isfinite(points).all(axis=(1, 2))
        if not known.any():
            continue
        size = float(np.percentile(np.ptp(points[known], axis=1).max(axis=1), 75))
        turn, length = scene.rng.uniform(0, 2 * np.pi), size * scene.rng.uniform(0.05, 0.15)
        shift = np.array([np.cos(turn), np.sin(turn)]) * length
        moved = list(frames)
        for frame in np.flatnonzero(known):
            moved[frame] = _pulled(frames[frame], points[frame], shift, size)
        frames = np.stack(moved)
    return frames


def _pulled(picture: np.ndarray, points: Points, shift: np.ndarray, size: float) -> np.ndarray:
    """Move a hand by ``shift`` pixels and let the move fade out over a hand size around it."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points + shift).astype(np.int32)), 255)
    wide = max(3, round(0.8 * size) | 1)
    wider = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, wide)))
    share = cv2.GaussianBlur(wider.astype(np.float32) / 255, (0, 0), 0.2 * size)
    rows, columns = np.indices(picture.shape[:2], dtype=np.float32)
    x, y = columns - share * np.float32(shift[0]), rows - share * np.float32(shift[1])
    return cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _half(scene: Scene) -> np.ndarray:
    """Made at half the resolution and enlarged."""
    return _through(scene.frames, 0.5, cv2.INTER_AREA, cv2.INTER_CUBIC)


def _double(scene: Scene) -> np.ndarray:
    """Made at twice the resolution and reduced."""
    return _through(scene.frames, 2.0, cv2.INTER_LANCZOS4, cv2.INTER_AREA)


def _skin(scene: Scene) -> np.ndarray:
    """Another skin colour: pixels with the colour of the hands become darker or lighter, and of another hue."""
    colours = [
        scene.frames[frame][_inside(points[frame], scene.frames.shape)]
        for points in scene.hands
        for frame in np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
    ]
    gain = scene.rng.uniform(1.2, 1.5) ** scene.sign() * scene.rng.uniform(0.92, 1.08, 3)
    if not colours:
        return scene.frames
    typical = _chroma(np.median(np.concatenate(colours), axis=0))
    changed = []
    for picture in scene.frames:
        unlike = np.linalg.norm(_chroma(picture) - typical, axis=-1)
        share = cv2.GaussianBlur(np.exp(-((unlike / 0.045) ** 2)).astype(np.float32), (0, 0), 0.7)[..., None]
        changed.append(_bytes(picture * (1 + share * (gain - 1))))
    return np.stack(changed)


def _remake(scene: Scene) -> np.ndarray:
    """All that a generator's decoder changes a little: softness, colours, a slow drift, grain."""
    count, height = scene.frames.shape[:2]
    rng = scene.rng
    soft = rng.uniform(0.3, 0.7) * max(1.0, height / 512)
    gain, lift = rng.uniform(0.93, 1.07, 3), rng.uniform(-6, 6, 3)
    path = np.cumsum(rng.normal(0, 0.0004, (count, 2)), axis=0) + rng.uniform(-0.003, 0.003, 2)
    changed = []
    for picture, shift in zip(scene.frames, path * height, strict=True):
        (moved,) = _warped(picture[None], np.column_stack([np.eye(2), shift]))
        changed.append(_bytes(cv2.GaussianBlur(moved, (0, 0), soft) * gain + lift + rng.normal(0, 1.5, picture.shape)))
    return np.stack(changed)


NUISANCES: Final[dict[str, Callable[[Scene], np.ndarray]]] = {
    "remake": _remake,
    "jpeg": _jpeg,
    "h264": _h264,
    "brightness": _brightness,
    "gamma": _gamma,
    "white_balance": _white_balance,
    "grain": _grain,
    "softness": _softness,
    "shift_2": _moved(2.0),
    "shift_4": _moved(4.0),
    "shift_8": _moved(8.0),
    "scale": _scale,
    "hand_shift": _hand_shift,
    "half": _half,
    "double": _double,
    "skin": _skin,
}


def _bytes(pictures: np.ndarray) -> np.ndarray:
    return np.clip(np.round(pictures), 0, 255).astype(np.uint8)


def _warped(frames: np.ndarray, change: np.ndarray) -> np.ndarray:
    size = frames.shape[2], frames.shape[1]
    return np.stack(
        [
            cv2.warpAffine(picture, change, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            for picture in frames
        ]
    )


def _through(frames: np.ndarray, factor: float, there: int, back: int) -> np.ndarray:
    height, width = frames.shape[1:3]
    other = max(1, round(width * factor)), max(1, round(height * factor))
    resized = (cv2.resize(picture, other, interpolation=there) for picture in frames)
    return np.stack([cv2.resize(picture, (width, height), interpolation=back) for picture in resized])


def _inside(points: Points, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape[1:3], np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points).astype(np.int32)), 1)
    return mask > 0


def _chroma(colours: np.ndarray) -> np.ndarray:
    """Return the shares of red and green, which don't change with the light."""
    total = colours.astype(np.float64).sum(axis=-1, keepdims=True) + 12
    return colours[..., :2] / total
