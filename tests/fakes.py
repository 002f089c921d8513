"""A generator and an extractor that cost nothing, so that tests and benchmarks see the pipeline itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flows.engine.components import Components
from ipa_core import keypoints
from ipa_core.clips.split import split_of
from ipa_core.config import AlignmentConfig, Execution, ModelConfig, PosesConfig, RunConfig
from ipa_core.pose import PersonBox
from ipa_core.records import Box, ConfidenceSource, PoseSequence, Split
from ipa_core.video import encode_video
from storage.digest import digest_file

if TYPE_CHECKING:
    from tests.fake_model import FakeModel

FRAMES, SIZE = 5, 32


class FakeExtractor:
    """Finds the same person everywhere; hand presence follows from the pixels, so every video has its own."""

    backend = "fake"
    hand_confidence: ConfidenceSource = "presence"

    def __init__(self, config: PosesConfig) -> None:
        self._config = config

    def weights(self) -> dict[str, str]:
        return {}

    def find_people(self, picture: np.ndarray) -> list[PersonBox]:
        height, width = picture.shape[:2]
        return [PersonBox(Box(x=0, y=0, width=width, height=height), 1.0)]

    def extract(self, frames: np.ndarray) -> PoseSequence:
        return self._pose(frames, np.full(len(frames), 0.9), body=True)

    def extract_hands(self, frames: np.ndarray, guide: PoseSequence) -> PoseSequence:
        draws = [round(frame.mean() / 25.5 % 1, 3) for frame in frames]
        return self._pose(frames, np.array(draws), body=False)

    def _pose(self, frames: np.ndarray, presence: np.ndarray, *, body: bool) -> PoseSequence:
        count, height, width = frames.shape[:3]
        points = np.zeros((count, keypoints.COUNT, 2), np.float32)
        confidence = np.zeros((count, keypoints.COUNT), np.float32)
        grid = np.stack([np.arange(21) % 5, np.arange(21) // 5], axis=1) / 4
        for side, centre in (("left", 0.7), ("right", 0.3)):
            part = keypoints.HANDS[side]  # type: ignore[index]
            points[:, part] = (np.array([centre, 0.5]) + (grid - 0.5) * 0.3) * [width, height]
            confidence[:, part] = presence[:, None]
        if body:
            # Every video has its own pose, so that no two have the same bytes.
            points[:, keypoints.BODY] = [width / 2, height / 2 + frames.mean() / 255]
            confidence[:, keypoints.BODY] = 0.9
        return PoseSequence(points, confidence, width, height, self.hand_confidence, self.backend)

    def close(self) -> None: ...


def fake_extractor(config: PosesConfig) -> FakeExtractor:
    return FakeExtractor(config)


def fake_model(config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool) -> FakeModel:
    # Imported when a model is wanted: a cached run loads no torch.
    from tests.fake_model import FakeModel

    return FakeModel(lora)


def fake_model_folder(config: ModelConfig) -> Path:
    return Path(config.path)


def fake_combined_lora(config: ModelConfig, loras: Sequence[tuple[bytes, float]]) -> bytes:
    return b"".join(data + str(weight).encode() for data, weight in loras)


def fake_card(config: ModelConfig, alignment: AlignmentConfig, base_model: str, samples: int) -> str:
    from ipa_core.models.wan_vace import WAN_VACE

    return WAN_VACE.card(alignment, base_model, samples)


FAKES = Components(
    pose_extractor=fake_extractor,  # type: ignore[arg-type]
    animation_model=fake_model,  # type: ignore[arg-type]
    combined_lora=fake_combined_lora,
    model_folder=fake_model_folder,
    model_card=fake_card,
)


def fake_config(folder: Path, **changes: object) -> RunConfig:
    """A small run over ``folder/videos`` with its store in ``folder/store``."""
    weights = folder / "model"
    weights.mkdir(parents=True, exist_ok=True)
    if not (weights / "weights").exists():
        (weights / "weights").write_bytes(b"fake weights")
    tree: dict[str, object] = {
        "name": "fake",
        "clips": {
            "sources": [str(folder / "videos")],
            "frames": FRAMES,
            "fps": 8,
            "width": SIZE,
            "height": SIZE,
            "held_out": 0.4,
            "prompt": "a person",
        },
        "candidates": {
            "model": {"path": str(weights), "dtype": "float32"},
            "per_clip": 2,
            "steps": 1,
            "scheduler": "euler",
            "shift": 1.0,
            "guidance_scale": 1.0,
        },
        "scores": {"min_hand_size": 2, "trusted_hand_size": 4, "fingers": False},
        "selection": {"threshold": 0.1},
        "shards": {"samples_per_shard": 2},
        "alignment": {"rank": 2, "alpha": 2, "steps": 4, "batch_size": 2, "dtype": "float32", "checkpoint_every": 2},
        "evaluation": {"per_clip": 1, "bootstrap": 50},
        "rounds": {
            "min_clips": 2,
            "alpha": 1.0,
            "max_psnr_drop": 100.0,
            "max_ssim_drop": 2.0,
            "max_sharpness_drop": 1.0,
        },
        "execution": {"store": str(folder / "store"), "device": "cpu", "workers": 1},
    }
    for name, value in changes.items():
        section, _, field = name.partition("__")
        tree[section][field] = value  # type: ignore[index]
    return RunConfig.model_validate(tree)


def write_video(path: Path, number: int, *, frames: int = FRAMES, size: int = SIZE, fps: float = 8) -> None:
    """A video whose pixels follow from its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 255, (1, size, size, 3), np.uint8)
    shifted = [np.roll(noise[0], frame, axis=1) for frame in range(frames)]
    path.write_bytes(encode_video(np.stack(shifted), fps))


def write_videos(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"video-{number:04d}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        write_video(path, number)
    return paths


def write_parted_videos(folder: Path, shares: tuple[float, ...], wanted: dict[tuple[Split, ...], int]) -> None:
    """So many videos of each kind; a video's kind are its sides at these shares of held-out ones, which follow from its
    bytes."""
    missing = dict(wanted)
    for number in count():
        path = folder / f"video-{number:04d}.mp4"
        write_video(path, number)
        sides = tuple(split_of(digest_file(path), share) for share in shares)
        if missing.get(sides, 0) > 0:
            missing[sides] -= 1
        else:
            path.unlink()
        if not any(missing.values()):
            return
