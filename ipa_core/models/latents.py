"""Final latents of a candidate as bytes."""

from __future__ import annotations

import safetensors.torch
import torch
from torch import Tensor


def latents_to_bytes(latents: Tensor) -> bytes:
    """``[C, R + T', h, w]`` -> safetensors with one float32 tensor ``latents``; equal latents give equal bytes."""
    if latents.ndim != 4:
        raise ValueError(f"latents of one sample have four dimensions [C, R + T', h, w], got {tuple(latents.shape)}")
    return safetensors.torch.save({"latents": latents.detach().to("cpu", torch.float32).contiguous()})


def latents_from_bytes(data: bytes) -> Tensor:
    """What :func:`latents_to_bytes` wrote, float32 on the CPU. Raises ``ValueError`` where there are none."""
    tensors = safetensors.torch.load(data)
    if "latents" not in tensors:
        raise ValueError(f"these bytes hold no latents, but {sorted(tensors)}")
    return tensors["latents"]
