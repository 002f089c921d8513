"""Convert the final latents of a candidate to bytes and back."""

from __future__ import annotations

import safetensors.torch
import torch
from torch import Tensor


def latents_to_bytes(latents: Tensor) -> bytes:
    """Write ``[C, R + T', h, w]`` as safetensors, one float32 tensor ``latents``. Equal latents give equal bytes."""
    if latents.ndim != 4:
        raise ValueError(f"latents of one sample have four dimensions [C, R + T', h, w], got {tuple(latents.shape)}")
    return safetensors.torch.save({"latents": latents.detach().to("cpu", torch.float32).contiguous()})


def latents_from_bytes(data: bytes) -> Tensor:
    """Read the bytes of :func:`latents_to_bytes`, float32 on the CPU. Raises ``ValueError`` when they lack latents."""
    tensors = safetensors.torch.load(data)
    if "latents" not in tensors:
        raise ValueError(f"these bytes hold no latents, but {sorted(tensors)}")
    return tensors["latents"]
