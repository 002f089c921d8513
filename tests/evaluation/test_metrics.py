from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ipa_core.evaluation import VideoMetrics, video_metrics
from ipa_core.evaluation.metrics import PSNR_CEILING, keypoint_error
from ipa_core.keypoints import COUNT
from ipa_core.keypoints import HANDS as SIDES
from ipa_core.masks import hand_mask
from ipa_core.records import PoseSequence
from tests.evaluation.material import FRAMES, pose_with_right_hand, smooth_video

TRUTH = smooth_video(0)
HANDS = hand_mask(pose_with_right_hand())


def noisy(amount: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, amount, TRUTH.shape)
    return (TRUTH + noise).round().clip(0, 255).astype(np.uint8)


def test_psnr_is_scikit_images_per_frame() -> None:
    video = noisy(9)
    expected = np.mean([peak_signal_noise_ratio(TRUTH[frame], video[frame]) for frame in range(FRAMES)])
    assert video_metrics(video, TRUTH, HANDS).psnr == pytest.approx(expected, abs=1e-5)


def test_ssim_is_scikit_images_per_frame() -> None:
    video = noisy(9)
    settings = {"channel_axis": 2, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = np.mean([structural_similarity(video[frame], TRUTH[frame], **settings) for frame in range(FRAMES)])
    # scikit-image's mean leaves out a border of 5 pixels; the map that hands are read from does not.
    assert video_metrics(video, TRUTH, HANDS).ssim == pytest.approx(expected, abs=0.02)


def test_equal_videos_reach_the_ceiling() -> None:
    assert video_metrics(TRUTH, TRUTH, HANDS) == VideoMetrics(
        psnr=PSNR_CEILING, ssim=1.0, psnr_hand=PSNR_CEILING, ssim_hand=1.0
    )


def test_a_fault_outside_the_hands_leaves_psnr_hand_alone() -> None:
    video = TRUTH.copy()
    video[:, :, 70:] = 255 - video[:, :, 70:]
    metrics = video_metrics(video, TRUTH, HANDS)
    assert metrics.psnr < 20
    assert metrics.psnr_hand == PSNR_CEILING


def test_psnr_hand_by_hand() -> None:
    video = np.where(HANDS[..., None], np.where(TRUTH >= 128, TRUTH - 10, TRUTH + 10), TRUTH)
    metrics = video_metrics(video.astype(np.uint8), TRUTH, HANDS)
    assert metrics.psnr_hand == pytest.approx(10 * np.log10(255**2 / 100), abs=1e-5)


def test_frames_without_a_hand_do_not_count() -> None:
    hands = hand_mask(pose_with_right_hand(shown=(1,)))
    video = TRUTH.copy()
    video[[0, 2, 3]] = 0
    assert video_metrics(video, TRUTH, hands).psnr_hand == PSNR_CEILING


def test_a_video_without_hands_has_no_hand_metrics() -> None:
    metrics = video_metrics(noisy(9), TRUTH, hand_mask(pose_with_right_hand(shown=())))
    assert (metrics.psnr_hand, metrics.ssim_hand) == (None, None)


def test_more_noise_is_worse_in_all() -> None:
    little, much = (video_metrics(noisy(amount), TRUTH, HANDS).model_dump() for amount in (4, 30))
    assert all(little[name] > much[name] for name in little)


def test_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size and length"):
        video_metrics(TRUTH[:, :32], TRUTH, HANDS)


def exact_hands() -> np.ndarray:
    """``[T, 133, 2]``: both hands 20 pixels wide."""
    points = np.zeros((FRAMES, COUNT, 2))
    for part in SIDES.values():
        points[:, part] = np.linspace(10, 30, 21)[:, None]
    return points


def found_at(shift: float, sure: float = 0.9) -> PoseSequence:
    points = exact_hands() + np.array([shift, 0])
    return PoseSequence(points.astype(np.float32), np.full(points.shape[:2], sure, np.float32), 96, 64, "model", "test")


def test_keypoint_error_is_in_hand_sizes() -> None:
    assert keypoint_error(found_at(5.0), exact_hands()) == pytest.approx(0.25)


@pytest.mark.parametrize("found", [None, found_at(0.0, sure=0.0), found_at(500.0)])
def test_a_hand_that_is_not_there_counts_as_a_whole_hand(found: PoseSequence | None) -> None:
    assert keypoint_error(found, exact_hands()) == 1.0
