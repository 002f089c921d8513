"""Compare how a generated video looks and moves with the true one: sharpness, contrast, saturation, speed.

PSNR and SSIM reward haze: the mean of all likely pictures is near to each. These measures show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import cv2
import numpy as np

from ipa_core.records import Record


class Look(Record):
    """Values of a generated video over those of the true video, >= 0; 1 is as in the true video. ``None``: the true
    video has nothing to compare with, or no hand. ``_hand``: over the pixels of the true video's hand mask."""

    sharpness: float | None
    """Variance of the Laplacian of the grey picture (Pech-Pacheco et al., ICPR 2000)."""
    sharpness_hand: float | None
    contrast: float | None
    """Standard deviation of the grey picture."""
    contrast_hand: float | None
    saturation: float | None
    """Mean of the largest minus the smallest colour channel."""
    saturation_hand: float | None
    motion: float | None
    """Mean length of the optical flow (DIS, Kroeger et al., 2016), pixels from frame to frame."""
    motion_hand: float | None


def look(video: np.ndarray, truth: np.ndarray, masks: np.ndarray) -> Look:
    """Compare uint8 RGB ``[T, H, W, 3]`` with the true video, whose hands are the pixels ``masks``, bool ``[T, H, W]``.

    Each value is the mean over the frames (with a hand, for hands) of one video over that of the other.
    """
    found: dict[str, float | None] = {}
    for name, measure in _MEASURES.items():
        made, true = measure.maps(video), measure.maps(truth)
        for part, mask in (("", np.ones_like(masks)), ("_hand", masks)):
            found[name + part] = _ratio(measure, made, true, mask)
    return Look.model_validate(found)


class _Measure(NamedTuple):
    maps: Callable[[np.ndarray], list[np.ndarray]]
    """A value of each pixel ``[H, W]`` of each frame."""
    sum_up: Callable[[np.ndarray], float]
    """Makes one value of the pixels of a frame."""
    least: float
    """A true value below this is flat, grey or at rest: nothing can be compared with it."""


def _ratio(
    measure: _Measure, made: Sequence[np.ndarray], true: Sequence[np.ndarray], masks: np.ndarray
) -> float | None:
    # A flow leads from a frame to the next, so the last frame has none.
    shown = [frame for frame in range(len(true)) if masks[frame].any()]
    if not shown:
        return None
    of_made, of_true = (
        float(np.mean([measure.sum_up(maps[frame][masks[frame]]) for frame in shown])) for maps in (made, true)
    )
    return round(of_made / of_true, 6) if of_true >= measure.least else None


def _greys(video: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) for frame in video]


def _laplacians(video: np.ndarray) -> list[np.ndarray]:
    return [cv2.Laplacian(grey, cv2.CV_64F) for grey in _greys(video)]


def _colours(video: np.ndarray) -> list[np.ndarray]:
    return [np.ptp(frame, axis=2).astype(np.float64) for frame in video]


def _speeds(video: np.ndarray) -> list[np.ndarray]:
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return [np.linalg.norm(flow.calc(one, other, None), axis=2) for one, other in pairwise(_greys(video))]  # type: ignore[call-overload]


_MEASURES: Final = {
    "sharpness": _Measure(_laplacians, np.var, 1.0),
    "contrast": _Measure(_greys, np.std, 1.0),
    "saturation": _Measure(_colours, np.mean, 0.5),
    "motion": _Measure(_speeds, np.mean, 0.05),
}
