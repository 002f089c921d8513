"""Compare a generated video with the true one: PSNR and SSIM, of the whole picture and of the hands."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from ipa_core.keypoints import HANDS
from ipa_core.records import PoseSequence, Record

PSNR_CEILING = 100.0
"""dB. Values are cut here, because equal pictures have infinite PSNR, which neither JSON nor a mean can hold."""


class VideoMetrics(Record):
    """Means over the frames of one generated video. Higher is closer."""

    psnr: float
    """dB, from 0 to 100."""
    ssim: float
    """In [-1, 1]."""
    psnr_hand: float | None
    """PSNR over the pixels of the hand mask; ``None`` if no frame shows a hand."""
    ssim_hand: float | None
    """Mean of the SSIM map over the pixels of the hand mask; ``None`` if no frame shows a hand."""


def video_metrics(video: np.ndarray, truth: np.ndarray, masks: np.ndarray) -> VideoMetrics:
    """Compare uint8 RGB ``[T, H, W, 3]`` with the true video, whose hands are the pixels ``masks``, bool ``[T, H, W]``.

    The masks belong to the true video, so a missing hand costs as much as a wrong one. Hand values are means over the
    frames with a hand; each frame counts the same, with large hands or small. Raises ``ValueError`` when sizes or
    lengths differ.
    """
    if video.shape != truth.shape or video.shape[:3] != masks.shape:
        raise ValueError(
            f"video, true video and hand masks must have one size and length, "
            f"got {video.shape}, {truth.shape} and {masks.shape}"
        )
    squares = [(made.astype(np.float64) - true) ** 2 for made, true in zip(video, truth, strict=True)]
    maps = [ssim_map(made, true) for made, true in zip(video, truth, strict=True)]
    shown = [frame for frame, mask in enumerate(masks) if mask.any()]
    return VideoMetrics(
        psnr=_mean(psnr(square.mean()) for square in squares),
        ssim=_mean(similarity.mean() for similarity in maps),
        psnr_hand=_mean(psnr(squares[frame][masks[frame]].mean()) for frame in shown) if shown else None,
        ssim_hand=_mean(maps[frame][masks[frame]].mean() for frame in shown) if shown else None,
    )


def keypoint_error(found: PoseSequence | None, exact: np.ndarray) -> float:
    """Return the mean distance, in [0, 1], of the found hand points from the exact ones ``[T, 133, 2]`` over the hand
    size. A hand that was not found, or that lies a whole hand away, counts as 1."""
    errors = []
    for part in HANDS.values():
        points = exact[:, part].astype(np.float64)
        size = np.ptp(points, axis=1).max(axis=1)
        distance = np.ones(len(points))
        if found is not None:
            there = (found.confidence[:, part] > 0).all(axis=1)
            away = np.linalg.norm(found.keypoints[:, part] - points, axis=2).mean(axis=1) / size
            distance = np.where(there, np.minimum(away, 1.0), 1.0)
        errors.append(distance)
    return round(float(np.mean(errors)), 6)


def psnr(mean_squared_error: float) -> float:
    """Return the peak signal-to-noise ratio of 8-bit pictures in dB, cut at :data:`PSNR_CEILING`."""
    if mean_squared_error <= 0:
        return PSNR_CEILING
    return float(min(PSNR_CEILING, 10 * np.log10(255**2 / mean_squared_error)))


def ssim_map(picture: np.ndarray, truth: np.ndarray) -> NDArray[np.float64]:
    """Return the structural similarity of every pixel, mean of the three channels, ``[H, W]``.

    Gaussian window with sigma 1.5, as Wang et al., "Image Quality Assessment: From Error Visibility to Structural
    Similarity" (2004), by scikit-image. Pictures need 11 pixels a side.
    """
    _, similarity = structural_similarity(
        picture,
        truth,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return np.asarray(similarity, np.float64).mean(axis=2)


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 6)
