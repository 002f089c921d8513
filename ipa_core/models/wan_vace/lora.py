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
_EXPERTS: Final = {"high": "transformer", "low": "transformer_2", "both": "transformer(?:_2)?"}
_COMFYUI_ATTENTION: Final = {"attn1": "self_attn", "attn2": "cross_attn"}


def target_modules(config: AlignmentConfig, experts: bool = False) -> str:
    """Return the pattern of the adapted layers: q, k and v of self-attention (attn1), with ``self_cross`` also of
    cross-attention (attn2), in the main blocks and, with ``vace_blocks``, in the control branch; of a model with two
    ``experts`` in those that ``config.experts`` names."""
    blocks = "(vace_)?blocks" if config.vace_blocks else "blocks"
    attention = "attn1" if config.targets == "self" else "attn[12]"
    expert = rf"{_EXPERTS[config.experts]}\." if experts else ""
    return rf"{expert}{blocks}\.\d+\.{attention}\.to_[qkv]"


def experts_lora_files(state: Mapping[str, Tensor], adapter: LoraConfig) -> dict[str, bytes]:
    """Return the files of a LoRA of two experts: one for this project with both, and two for each adapted expert.

    Other programs load a file into one expert at a time, so each expert's own files have the usual names of layers.
    """
    files = {LORA_FILE: diffusers_lora(state, adapter, prefix="")}
    for expert, part in (("high", "transformer."), ("low", "transformer_2.")):
        own = {name.removeprefix(part): tensor for name, tensor in state.items() if name.startswith(part)}
        if own:
            alone = LoraConfig(
                r=adapter.r, lora_alpha=adapter.lora_alpha, target_modules=_without_expert(adapter.target_modules)
            )
            for name, data in lora_files(own, alone).items():
                stem, _, suffix = name.partition(".")
                files[f"{stem}_{expert}_noise.{suffix}"] = data
    return files


def _without_expert(pattern: object) -> str:
    return str(pattern).partition(r"\.")[2]


def lora_files(state: Mapping[str, Tensor], adapter: LoraConfig) -> dict[str, bytes]:
    """Return one file for diffusers and one for ComfyUI; see :class:`~ipa_core.models.AnimationModel`."""
    return {LORA_FILE: diffusers_lora(state, adapter), COMFYUI_FILE: comfyui_lora(state, adapter)}


def diffusers_lora(state: Mapping[str, Tensor], adapter: LoraConfig, prefix: str = "transformer.") -> bytes:
    """Write ``pytorch_lora_weights.safetensors`` like ``WanVACEPipeline.save_lora_weights``, in deterministic bytes.

    The file holds the adapter's metadata. Without them loading takes alpha for the rank. ``prefix``: of the layers'
    names, empty where they begin with the names of two experts.
    """
    tensors = {f"{prefix}{name}": tensor for name, tensor in state.items()}
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
