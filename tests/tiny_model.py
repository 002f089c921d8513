"""A Wan-VACE pipeline folder small enough for tests: the real diffusers classes with random weights.

``wan`` has the geometry of Wan 2.1 (8x smaller pictures, 4x fewer frames), ``demo`` that of the demo model (8x by
patches, every frame kept).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanAnimatePipeline,
    WanAnimateTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from transformers import (
    ByT5Tokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    UMT5Config,
    UMT5EncoderModel,
)

FRAMES, HEIGHT, WIDTH = 9, 64, 64
"""A clip that both geometries take: 3 (wan) or 9 (demo) latent frames of 8 x 8, and one for the reference."""

_TEXT_DIM = 32


def write_tiny_pipeline(
    folder: Path,
    *,
    seed: int = 0,
    layers: int = 2,
    geometry: Literal["wan", "demo"] = "wan",
    boundary_ratio: float | None = None,
) -> Path:
    """Write a random pipeline to ``folder``, the same for the same arguments, and return the folder. With a
    ``boundary_ratio`` it has two experts, as Wan 2.2 VACE-Fun."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = _wan_vae() if geometry == "wan" else _demo_vae()
        transformer = _transformer(vae.config.z_dim, layers)
        text_encoder = UMT5EncoderModel(_text_config())
        second = None if boundary_ratio is None else _transformer(vae.config.z_dim, layers)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    parts = ByT5Tokenizer(), text_encoder, vae, scheduler, transformer, second
    WanVACEPipeline(*parts, boundary_ratio=boundary_ratio).save_pretrained(folder)
    return folder


def _transformer(channels: int, layers: int) -> WanVACETransformer3DModel:
    return WanVACETransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=channels,
        out_channels=channels,
        text_dim=_TEXT_DIM,
        freq_dim=32,
        ffn_dim=96,
        num_layers=layers,
        rope_max_seq_len=32,
        vace_layers=list(range(0, layers, 2)),
        vace_in_channels=2 * channels + 64,
    )


def _wan_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


def _demo_vae() -> AutoencoderKLWan:
    latents = 8
    return AutoencoderKLWan(
        base_dim=16,
        z_dim=latents,
        dim_mult=[1],
        num_res_blocks=1,
        temperal_downsample=[False, False, False],
        latents_mean=[0.1 * channel for channel in range(latents)],
        latents_std=[1.0 + 0.1 * channel for channel in range(latents)],
        in_channels=192,
        out_channels=192,
        patch_size=8,
        scale_factor_temporal=1,
    )


def _text_config() -> UMT5Config:
    return UMT5Config(
        vocab_size=384, d_model=_TEXT_DIM, d_kv=16, d_ff=64, num_layers=1, num_decoder_layers=1, num_heads=2
    )


def write_tiny_animate(folder: Path, *, seed: int = 0) -> Path:
    """Write a random Wan-Animate pipeline to ``folder``, the same for the same seed, and return the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = WanAnimateTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            text_dim=_TEXT_DIM,
            freq_dim=32,
            ffn_dim=48,
            num_layers=2,
            rope_max_seq_len=32,
            image_dim=8,
            added_kv_proj_dim=24,
            motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
            motion_encoder_size=16,
            motion_style_dim=8,
            motion_dim=4,
            motion_encoder_dim=16,
            face_encoder_hidden_dim=16,
            face_encoder_num_heads=2,
            inject_face_latents_blocks=2,
        )
        parts = {
            "tokenizer": ByT5Tokenizer(),
            "text_encoder": UMT5EncoderModel(_text_config()),
            "vae": _wan_vae(),
            "image_encoder": CLIPVisionModel(_clip_config()),
        }
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    pipeline = WanAnimatePipeline(**parts, image_processor=processor, scheduler=scheduler, transformer=transformer)
    pipeline.save_pretrained(folder)
    return folder


def _clip_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16
    )
