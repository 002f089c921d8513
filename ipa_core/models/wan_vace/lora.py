"""LoRAs of Wan-VACE: the layers that get one, and the files for diffusers and ComfyUI."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

import safetensors.torch
import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from torch import Tensor

from ipa_core.config import AlignmentConfig
from ipa_core.models.animation import LORA_FILE

COMFYUI_FILE: Final = "comfyui_lora.safetensors"
_COMFYUI_ATTENTION: Final = {"attn1": "self_attn", "attn2": "cross_attn"}


def target_modules(config: AlignmentConfig) -> str:
    """Return the pattern of the adapted layers: q, k and v of self-attention (attn1), with ``self_cross`` also of
    cross-attention (attn2), in the main blocks and, with ``vace_blocks``, in the control branch."""
    blocks = "(vace_)?blocks" if config.vace_blocks else "blocks"
    attention = "attn1" if config.targets == "self" else "attn[12]"
    return rf"{blocks}\.\d+\.{attention}\.to_[qkv]"


def lora_files(state: Mapping[str, Tensor], adapter: LoraConfig) -> dict[str, bytes]:
    """Return one file for diffusers and one for ComfyUI; see :class:`~ipa_core.models.AnimationModel`."""
    return {LORA_FILE: diffusers_lora(state, adapter), COMFYUI_FILE: comfyui_lora(state, adapter)}


def diffusers_lora(state: Mapping[str, Tensor], adapter: LoraConfig) -> bytes:
    """Write ``pytorch_lora_weights.safetensors`` like ``WanVACEPipeline.save_lora_weights``, in deterministic bytes.

    The file holds the adapter's metadata. Without them loading takes alpha for the rank.
    """
    tensors = {f"transformer.{name}": tensor for name, tensor in state.items()}
    prefixed = {f"transformer.{name}": value for name, value in adapter.to_dict().items()}
    text = json.dumps(prefixed, indent=2, sort_keys=True, default=sorted)  # sets of layers
    return _ordered(safetensors.torch.save(tensors, metadata={"format": "pt", LORA_ADAPTER_METADATA_KEY: text}))


def comfyui_lora(state: Mapping[str, Tensor], adapter: LoraConfig) -> bytes:
    """Write the LoRA with ComfyUI's names, those of the original Wan code, and alpha as a tensor per layer."""
    alpha = float(adapter.lora_alpha)
    tensors = {}
    for name, tensor in state.items():
        layer, matrix = comfyui_name(name)
        tensors[f"{layer}.{matrix}.weight"] = tensor
        tensors[f"{layer}.alpha"] = torch.tensor(alpha)
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def comfyui_name(name: str) -> tuple[str, str]:
    """Turn ``blocks.3.attn2.to_k.lora_A.weight`` into ``diffusion_model.blocks.3.cross_attn.k`` and ``lora_A``."""
    found = re.fullmatch(r"((?:vace_)?blocks\.\d+)\.(attn[12])\.to_([qkv])\.(lora_[AB])\.weight", name)
    if found is None:
        raise ValueError(f"'{name}' is no LoRA weight of an attention q, k or v projection")
    block, attention, projection, matrix = found.groups()
    return f"diffusion_model.{block}.{_COMFYUI_ATTENTION[attention]}.{projection}", matrix


def _ordered(data: bytes) -> bytes:
    """Sort the metadata of a safetensors file by name. safetensors writes them in the order of a hash map."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
