"""What generation, alignment and evaluation need of an animation model.

``t = 1`` is pure noise. Latents are normalised: ``(z - latents_mean) / latents_std``, reference frames in front.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What one clip's candidates share; encoded once. Batch dimension 1.

    control: ``[1, C_control, R + T', h, w]``, as the transformer takes it (Wan-VACE: inactive, reactive, folded mask).
    reference_latents: ``[1, C, R, h, w]``, normalised; R reference frames (Wan-VACE: 1).
    prompt_embeds: ``[1, L, D]``; negative_prompt_embeds the same, or None where there is no guidance.
    frames, height, width: of the video in pixels.
    """

    control: Tensor
    reference_latents: Tensor
    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor | None
    frames: int
    height: int
    width: int

    def to(self, device: torch.device) -> Conditioning:
        """The same on another device."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return replace(self, **moved)

    def to_bytes(self) -> bytes:
        """As safetensors; the same conditioning gives the same bytes, whatever device it is on."""
        size = {"frames": self.frames, "height": self.height, "width": self.width}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._tensors().items()}
        # One metadata entry: safetensors keeps several in a hash map, whose order is not the same in every process.
        return safetensors.torch.save(tensors, metadata={"conditioning": json.dumps(size, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Conditioning:
        """Read what :meth:`to_bytes` wrote, onto the CPU. Raises ``ValueError`` where it is none."""
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        size = header.get("__metadata__", {}).get("conditioning")
        if size is None:
            raise ValueError("these bytes hold no conditioning: the metadata entry 'conditioning' is missing")
        tensors = safetensors.torch.load(data)
        return cls(
            control=tensors["control"],
            reference_latents=tensors["reference_latents"],
            prompt_embeds=tensors["prompt_embeds"],
            negative_prompt_embeds=tensors.get("negative_prompt_embeds"),
            **json.loads(size),
        )

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}


class AnimationModel(Protocol):
    """A pretrained flow-matching model that animates a reference image with a control video."""

    transformer: torch.nn.Module
    """The part that a LoRA is put on."""
    device: torch.device
    dtype: torch.dtype

    def encode_conditioning(
        self,
        control_video: np.ndarray,
        reference: np.ndarray,
        prompt: str,
        negative_prompt: str | None,
    ) -> Conditioning:
        """``control_video`` uint8 ``[T, H, W, 3]``, ``reference`` uint8 ``[H, W, 3]`` -> tensors on the model's device.

        ``negative_prompt`` None: no guidance.
        """

    def encode_video(self, video: np.ndarray) -> Tensor:
        """uint8 ``[T, H, W, 3]`` -> normalised latents ``[1, C, T', h, w]`` float32, without reference frames."""

    def latent_shape(self, conditioning: Conditioning) -> tuple[int, int, int, int]:
        """``(C, R + T', h, w)`` of one sample's latents."""

    def velocity(
        self,
        latents: Tensor,
        t: Tensor,
        control: Tensor,
        prompt_embeds: Tensor,
    ) -> Tensor:
        """``latents [B, C, R + T', h, w]``, ``t [B]`` in [0, 1], ``control [B, ...]``, ``prompt_embeds [B, L, D]`` ->
        predicted ``noise - clean`` of the latents' shape."""

    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents ``[B, C, R + T', h, w]`` -> uint8 ``[B, T, H, W, 3]``; the reference frames are dropped."""
