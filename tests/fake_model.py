"""A generator that costs nothing; its transformer is real (tiny): training, LoRA files and their use are not faked."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import blake3
import numpy as np
import torch
from peft import LoraConfig
from torch import Tensor

from ipa_core.config import AlignmentConfig, CandidatesConfig, DrawingConfig
from ipa_core.drawing import draw_sequence
from ipa_core.models.animation import Driving, Scheduler
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_vace.lora import lora_files, target_modules
from ipa_core.models.wan_vace.model import wan_scheduler

CHANNELS = 4


class FakeModel:
    """An AnimationModel whose codec is a resize; 8 x 8 pixels a latent cell, every frame kept."""

    how: Mapping[str, str] = {}
    blocks = ("WanTransformerBlock", "WanVACETransformerBlock")

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
        self._shift = 0.0 if lora is None else (1 + blake3.blake3(lora).digest()[0]) / 256

    def draw(self, driving: Driving, drawing: DrawingConfig) -> np.ndarray:
        return draw_sequence(driving.pose, drawing)

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
        unguided = None if negative_prompt is None else {"prompt_embeds": torch.zeros_like(words)}
        return Conditioning({"control": control}, {"prompt_embeds": words}, unguided, kept, frames, height, width)

    def encode_video(self, video: np.ndarray) -> Tensor:
        cells = torch.from_numpy(video).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
        pooled = torch.nn.functional.avg_pool3d(cells, (1, 8, 8))
        return torch.cat([pooled, pooled.mean(1, keepdim=True)], 1)

    def latent_shape(self, conditioning: Conditioning) -> tuple[int, int, int, int]:
        return CHANNELS, conditioning.frames + 1, conditioning.height // 8, conditioning.width // 8

    def sampling(self) -> nullcontext[None]:
        return nullcontext()

    def velocity(self, latents: Tensor, t: Tensor, streams: Mapping[str, Tensor]) -> Tensor:
        found: Tensor = self.transformer(
            hidden_states=latents,
            timestep=t * 1000,
            encoder_hidden_states=streams["prompt_embeds"],
            control_hidden_states=streams["control"],
            control_hidden_states_scale=torch.ones(1),
            return_dict=False,
        )[0]
        return found

    def decode(self, latents: Tensor) -> np.ndarray:
        pictures = latents[:, :3, 1:].float() + self._shift
        large = torch.nn.functional.interpolate(pictures, scale_factor=(1, 8, 8))
        return ((large.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 4, 1).numpy()

    def scheduler(self, config: CandidatesConfig) -> Scheduler:
        return wan_scheduler(config)

    def lora_targets(self, config: AlignmentConfig) -> str:
        return target_modules(config)

    def t_range(self, config: AlignmentConfig) -> tuple[float, float]:
        return 0.0, 1.0

    def lora_files(self, state: Mapping[str, Tensor], adapter: LoraConfig) -> dict[str, bytes]:
        return lora_files(state, adapter)
