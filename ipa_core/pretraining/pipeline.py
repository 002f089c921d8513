"""Assembles the small WanVACEPipeline out of the stock classes. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanVACEPipeline, WanVACETransformer3DModel
from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

from ipa_core.pretraining.codec import PATCH
from ipa_core.pretraining.config import FlowModelConfig

SHIFT = 3.0
"""Shift of the sampling timesteps. The reports use it with 12 Euler steps and guidance 1.0."""


def assemble(autoencoder: Any, transformer: Any, text_encoder: UMT5EncoderModel) -> Any:
    """Return a quiet WanVACEPipeline. The tokens of ByT5 are bytes, so its tokenizer needs no vocabulary file."""
    pipeline: Any = WanVACEPipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=text_encoder,
        vae=autoencoder,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_compact(pipeline: Any, folder: Path) -> None:
    """Save a pipeline with its large parts in half precision. ``from_pretrained`` makes them float32 again."""
    large = (pipeline.transformer, pipeline.vae)
    for part in large:
        _cast(part, torch.float16)
    pipeline.save_pretrained(folder)
    for part in large:
        _cast(part, torch.float32)


def _cast(module: Any, dtype: torch.dtype) -> None:
    """Cast the weights as they are stored. ``module.to`` would warn, rightly, about computing in half precision."""
    for weight in module.parameters():
        weight.data = weight.data.to(dtype)


def build_text_encoder(model: FlowModelConfig, seed: int) -> UMT5EncoderModel:
    """Build a one-layer encoder with random weights, never trained: it only has to tell the prompts apart."""
    config: Any = UMT5Config(vocab_size=384, d_model=model.text_dim, d_kv=16, d_ff=2 * model.text_dim, num_heads=2)
    config.num_layers, config.dropout_rate = 1, 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UMT5EncoderModel(config).eval()


def build_transformer(model: FlowModelConfig, channels: int, seed: int) -> Any:
    """Build a WanVACETransformer3DModel with random weights. At the start noise passes straight through: the patch
    embedding is orthonormal and the output head its transpose (a head of zeros would first spend minutes on this)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer: Any = WanVACETransformer3DModel(
            patch_size=model.patch,
            num_attention_heads=model.heads,
            attention_head_dim=model.head_dim,
            in_channels=channels,
            out_channels=channels,
            text_dim=model.text_dim,
            freq_dim=64,
            ffn_dim=model.ffn_dim,
            num_layers=model.layers,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=64,
            vace_layers=list(model.vace_layers),
            vace_in_channels=2 * channels + PATCH**2,
        )
        width, inputs = model.heads * model.head_dim, channels * int(np.prod(model.patch))
        if inputs <= width:
            axes = torch.linalg.qr(torch.randn(width, inputs)).Q
            with torch.no_grad():
                # The head's outputs are ordered patch by patch, channels last; the embedding's inputs channels first.
                embedding = axes.reshape(width, *model.patch, channels).permute(0, 4, 1, 2, 3)
                transformer.patch_embedding.weight.copy_(embedding)
                transformer.patch_embedding.bias.zero_()
                transformer.proj_out.weight.copy_(0.5 * (inputs / width) ** 0.5 * axes.T)
                transformer.proj_out.bias.zero_()
    return transformer
