"""A generator and an extractor that cost nothing, so that tests and benchmarks see the pipeline itself.

The transformer is real (tiny): training, LoRA files and their use are not faked.
"""

from __future__ import annotations

from pathlib import Path

import blake3
import numpy as np
import torch
from torch import Tensor

from flows.components import Components, hand_scorer
from ipa_core import keypoints
from ipa_core.config import Execution, ModelConfig, PosesConfig, RunConfig
from ipa_core.models.animation import Conditioning
from ipa_core.pose import PersonBox
from ipa_core.records import Box, ConfidenceSource, PoseSequence
from ipa_core.video import encode_video

FRAMES, SIZE = 5, 32
CHANNELS = 4


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


class FakeModel:
    """An AnimationModel whose codec is a resize; 8 x 8 pixels a latent cell, every frame kept."""

    def __init__(self, lora: bytes | None) -> None:
        from diffusers import WanVACETransformer3DModel

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.transformer = WanVACETransformer3DModel(
                patch_size=(1, 2, 2),
                num_attention_heads=1,
                attention_head_dim=12,
                in_channels=CHANNELS,
                out_channels=CHANNELS,
                text_dim=8,
                freq_dim=8,
                ffn_dim=16,
                num_layers=1,
                rope_max_seq_len=16,
                vace_layers=[0],
                vace_in_channels=2 * CHANNELS + 64,
            )
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self._shift = 0.0 if lora is None else blake3.blake3(lora).digest()[0] / 255

    def encode_conditioning(
        self, control_video: np.ndarray, reference: np.ndarray, prompt: str, negative_prompt: str | None
    ) -> Conditioning:
        frames, height, width = control_video.shape[:3]
        drawn = self.encode_video(control_video)
        kept = self.encode_video(reference[None])
        inactive = torch.cat([kept, torch.zeros_like(drawn)], 2)
        reactive = torch.cat([torch.zeros_like(kept), drawn], 2)
        mask = torch.ones(1, 64, frames + 1, height // 8, width // 8)
        words = torch.full((1, 4, 8), (len(prompt) % 7) / 7)
        control = torch.cat([inactive, reactive, mask], 1)
        return Conditioning(control, kept, words, None, frames, height, width)

    def encode_video(self, video: np.ndarray) -> Tensor:
        cells = torch.from_numpy(video).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
        pooled = torch.nn.functional.avg_pool3d(cells, (1, 8, 8))
        return torch.cat([pooled, pooled.mean(1, keepdim=True)], 1)

    def latent_shape(self, conditioning: Conditioning) -> tuple[int, int, int, int]:
        return CHANNELS, conditioning.frames + 1, conditioning.height // 8, conditioning.width // 8

    def velocity(
        self,
        latents: Tensor,
        t: Tensor,
        control: Tensor,
        prompt_embeds: Tensor,
    ) -> Tensor:
        found: Tensor = self.transformer(
            hidden_states=latents,
            timestep=t * 1000,
            encoder_hidden_states=prompt_embeds,
            control_hidden_states=control,
            control_hidden_states_scale=torch.ones(1),
            return_dict=False,
        )[0]
        return found

    def decode(self, latents: Tensor) -> np.ndarray:
        pictures = latents[:, :3, 1:].float() + self._shift
        large = torch.nn.functional.interpolate(pictures, scale_factor=(1, 8, 8))
        return ((large.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 4, 1).numpy()


def fake_extractor(config: PosesConfig) -> FakeExtractor:
    return FakeExtractor(config)


def fake_model(config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool) -> FakeModel:
    return FakeModel(lora)


def fake_model_folder(config: ModelConfig) -> Path:
    return Path(config.path)


FAKES = Components(fake_extractor, hand_scorer, fake_model, fake_model_folder)  # type: ignore[arg-type]


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
        "scores": {"min_hand_size": 2, "trusted_hand_size": 4},
        "selection": {"threshold": 0.1},
        "shards": {"samples_per_shard": 2},
        "alignment": {"rank": 2, "alpha": 2, "steps": 4, "batch_size": 2, "dtype": "float32", "checkpoint_every": 2},
        "evaluation": {"per_clip": 1, "bootstrap": 50},
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
