"""The small model's codec: a linear code of 8 x 8 blocks, written into the weights of AutoencoderKLWan.

Each frame is coded by itself. The 192 pixel values of a block become z coefficients along the principal axes of the
training pictures (not centred: grey has zero coefficients), scaled so that strong axes count somewhat more than weak
ones. The stock network computes this linear map as follows. Every coefficient x passes the activation as the pair
(x, -x), since silu(x) - silu(-x) = x. One constant channel, much larger than all others, keeps the RMS normalisation
from changing them. Residual branches end in zeros. Afterwards the decoder is fine-tuned and may become nonlinear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanResidualBlock, patchify, unpatchify
from torch import Tensor, nn

from ipa_core.people.dataset import Progress, RenderedSet
from ipa_core.pretraining.config import CodecConfig

PATCH = 8
ENCODER_CONSTANT = 500.0
"""Keeps the encoder within about 1/255 of the linear code."""
DECODER_CONSTANT = 40.0
"""Small enough for well-conditioned fine-tuning, which takes the nonlinearity into account."""


@dataclass(frozen=True, eq=False)
class LinearCodec:
    """basis: ``[192, z]``, orthonormal columns in the order of ``patchify``. scale: ``[z]``. mean: ``[z]``, of the
    scaled coefficients; the pipeline subtracts it (``latents_mean``)."""

    basis: Tensor
    scale: Tensor
    mean: Tensor

    def encode(self, video: Tensor) -> Tensor:
        """Encode ``[B, 3, T, H, W]`` in [-1, 1] to normalised latents ``[B, z, T, H/8, W/8]``, as the pipeline does."""
        coefficients = torch.einsum("bpthw,pz->bzthw", patchify(video, PATCH), self.basis * self.scale)
        return coefficients - self.mean.view(1, -1, 1, 1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents to ``[B, 3, T, H, W]``, about in [-1, 1]."""
        coefficients = latents + self.mean.view(1, -1, 1, 1, 1)
        return unpatchify(torch.einsum("bzthw,pz->bpthw", coefficients, self.basis / self.scale), PATCH)


def to_video(frames: np.ndarray) -> Tensor:
    """Convert uint8 ``[B, T, H, W, 3]`` to float32 ``[B, 3, T, H, W]`` in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def fit_linear_codec(pictures: RenderedSet, controls: np.ndarray, config: CodecConfig) -> LinearCodec:
    """Find the principal axes of the pictures' blocks, with more weight on hands. The control drawings
    ``[N, T, H, W, 3]`` go through the same code and have a tenth of the weight."""
    moment = torch.zeros(3 * PATCH**2, 3 * PATCH**2, dtype=torch.float64)
    total = 0.0
    for start in range(0, len(pictures), 100):
        part = slice(start, start + 100)
        blocks = patchify(to_video(pictures.frames[part]), PATCH)
        weight = 1 + config.hand_weight * torch.from_numpy(hand_share(pictures.hand_mask[part]))[:, None]
        moment += torch.einsum("bpthw,bqthw->pq", blocks * weight, blocks).double()
        total += float(weight.sum())
    drawn = patchify(to_video(controls), PATCH)
    drawn_moment = torch.einsum("bpthw,bqthw->pq", drawn, drawn).double() / drawn[:, 0].numel()
    axes = torch.linalg.eigh(0.9 * moment / total + 0.1 * drawn_moment).eigenvectors.flip(1)
    basis = axes[:, : config.channels].float()

    sample = torch.einsum("bpthw,pz->bzthw", patchify(to_video(pictures.frames[:300]), PATCH), basis)
    spread = sample.std(dim=(0, 2, 3, 4))
    scale = spread.rsqrt()
    scale = scale / ((spread * scale) ** 2).mean().sqrt()
    mean = sample.mean(dim=(0, 2, 3, 4)) * scale
    return LinearCodec(basis, scale, mean)


def build_autoencoder(codec: LinearCodec, config: CodecConfig) -> Any:
    """Build an AutoencoderKLWan whose weights compute ``codec``: the encoder to 1e-2, the decoder less closely."""
    channels, pixels = config.channels, 3 * PATCH**2
    autoencoder: Any = AutoencoderKLWan(
        base_dim=config.encoder_dim,
        decoder_base_dim=config.decoder_dim,
        z_dim=channels,
        dim_mult=[1],
        num_res_blocks=1,
        attn_scales=[],
        # The pipeline counts these flags. Three flags, none of them true, give 8 x 8 in space and 1 in time.
        temperal_downsample=[False, False, False],
        patch_size=PATCH,
        in_channels=pixels,
        out_channels=pixels,
        scale_factor_temporal=1,
        scale_factor_spatial=PATCH,
        latents_mean=codec.mean.tolist(),
        latents_std=[1.0] * channels,
    )
    identity = torch.eye(channels)
    with torch.no_grad():
        for module in autoencoder.modules():
            if isinstance(module, WanResidualBlock):
                _zero(module.conv2)
            elif isinstance(module, WanAttentionBlock):
                _zero(module.proj)
        encoder, decoder = autoencoder.encoder, autoencoder.decoder
        _spread_into_pairs(encoder.conv_in, (codec.basis * codec.scale).T, ENCODER_CONSTANT)
        encoder.norm_out.gamma.fill_(ENCODER_CONSTANT / config.encoder_dim**0.5)
        _gather_pairs(encoder.conv_out, identity)
        _zero(autoencoder.quant_conv)
        autoencoder.quant_conv.weight[:channels, :channels, 0, 0, 0] = identity
        autoencoder.quant_conv.bias[channels:] = -30.0  # log variance: sampling equals the mode
        _zero(autoencoder.post_quant_conv)
        autoencoder.post_quant_conv.weight[:, :, 0, 0, 0] = identity
        _spread_into_pairs(decoder.conv_in, identity, DECODER_CONSTANT)
        for module in decoder.modules():
            if hasattr(module, "gamma"):
                module.gamma.fill_(DECODER_CONSTANT / config.decoder_dim**0.5)
        _gather_pairs(decoder.conv_out, codec.basis / codec.scale)
        # Channels that the linear code leaves free start with random features, which the fine-tuning can use.
        free = decoder.conv_in.weight[2 * channels + 1 :]
        generator = torch.Generator().manual_seed(0)
        free.copy_(torch.randn(free.shape, generator=generator) * 0.3 / math.sqrt(9 * channels))
    return autoencoder.eval()


def finetune_decoder(
    autoencoder: Any,
    codec: LinearCodec,
    pictures: RenderedSet,
    config: CodecConfig,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Train the decoder in place on crops, three of four around a hand. It learns to hide the seams between blocks."""
    decoder = autoencoder.to(device).requires_grad_(False).decoder
    decoder.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(decoder.parameters(), config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    for step in range(config.steps):
        warm, done = min(1.0, (step + 1) / 30), step / config.steps
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * warm * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))
        frames, mask = _crops(pictures, config, rng)
        video = to_video(frames)
        latents = codec.encode(video)
        latents = latents + 0.05 * torch.randn(latents.shape, generator=generator)  # The flow model has inexact latents
        weight = 1 + config.hand_weight * torch.from_numpy(mask)[:, None].float()
        difference = decode(autoencoder, latents.to(device)) - video.to(device)
        loss = (weight.to(device) * (difference.abs() + 2 * difference**2)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        if progress and step % 20 == 19:
            progress(f"codec step {step + 1} of {config.steps}, loss {loss.item():.4f}", (step + 1) / config.steps)
    decoder.requires_grad_(False).eval()
    autoencoder.to("cpu")


def decode(autoencoder: Any, latents: Tensor) -> Tensor:
    """Decode normalised latents ``[B, z, T, h, w]`` to video ``[B, 3, T, H, W]``, as the pipeline does."""
    mean = torch.tensor(autoencoder.config.latents_mean, device=latents.device).view(1, -1, 1, 1, 1)
    return autoencoder.decode(latents + mean).sample


def _crops(pictures: RenderedSet, config: CodecConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    frames, masks = [], []
    size = pictures.frames.shape[2]
    for _ in range(config.batch_size):
        clip = int(rng.integers(len(pictures)))
        row, column = rng.uniform(0, size, 2)
        hand = np.argwhere(pictures.hand_mask[clip])
        if len(hand) and rng.uniform() < 0.75:
            _, row, column = hand[rng.integers(len(hand))]
        top, left = (
            int(np.clip(round((centre - config.crop / 2) / PATCH), 0, (size - config.crop) // PATCH)) * PATCH
            for centre in (row, column)
        )
        window = (clip, slice(None), slice(top, top + config.crop), slice(left, left + config.crop))
        frames.append(pictures.frames[window])
        masks.append(pictures.hand_mask[window])
    return np.stack(frames), np.stack(masks)


def hand_share(mask: np.ndarray) -> np.ndarray:
    """Return the share of hand pixels per latent of bool ``[..., H, W]``: float32 ``[..., H/8, W/8]``."""
    *rest, height, width = mask.shape
    blocks = mask.reshape(*rest, height // PATCH, PATCH, width // PATCH, PATCH)
    return blocks.mean(axis=(-3, -1), dtype=np.float32)


def _zero(layer: Any) -> None:
    layer.weight.zero_()
    layer.bias.zero_()


def _spread_into_pairs(convolution: Any, matrix: Tensor, constant: float) -> None:
    """Make the channels matrix @ input, its negative, and the constant. The kernel sees its own position and frame."""
    _zero(convolution)
    rows = len(matrix)
    convolution.weight[:rows, :, 2, 1, 1] = matrix
    convolution.weight[rows : 2 * rows, :, 2, 1, 1] = -matrix
    convolution.bias[2 * rows] = constant


def _gather_pairs(convolution: Any, matrix: Tensor) -> None:
    """Make the channels matrix @ (first half of the pairs - second half)."""
    _zero(convolution)
    columns = matrix.shape[1]
    convolution.weight[: len(matrix), :columns, 2, 1, 1] = matrix
    convolution.weight[: len(matrix), columns : 2 * columns, 2, 1, 1] = -matrix
