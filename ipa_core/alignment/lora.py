"""The adapter that is trained: a LoRA on attention projections, and the files it is handed on as."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import safetensors.torch
import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor

from ipa_core.alignment.draws import generator
from ipa_core.alignment.processes import whole
from ipa_core.config import AlignmentConfig

_COMFYUI_ATTENTION = {"attn1": "self_attn", "attn2": "cross_attn"}


def target_modules(config: AlignmentConfig) -> str:
    """The adapted layers as a regular expression over full module names: q, k and v of self-attention (attn1), with
    ``self_cross`` of cross-attention (attn2) too, in the main blocks and on request in the control branch.

    A string, since peft would store a list as a set, whose order differs from process to process.
    """
    blocks = "(vace_)?blocks" if config.vace_blocks else "blocks"
    attention = "attn1" if config.targets == "self" else "attn[12]"
    return rf"{blocks}\.\d+\.{attention}\.to_[qkv]"


def add_lora(transformer: torch.nn.Module, config: AlignmentConfig) -> None:
    """Freeze the transformer and put a trainable float32 LoRA on it that changes nothing yet (B = 0).

    A comes from the seed and the layer's name alone: the same on every device and for every set of targets. Raises
    ``ValueError`` where there is an adapter already: switching both off would not give the reference.
    """
    if getattr(transformer, "peft_config", None):
        raise ValueError("the transformer carries a LoRA already: merge it into the weights (fuse_lora) or unload it")
    adapter = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=target_modules(config))
    cast(Any, transformer).add_adapter(adapter)
    for name, parameter in lora_parameters(transformer).items():
        # peft gives a LoRA its layer's type; in bfloat16 most optimizer steps would round to nothing.
        parameter.data = parameter.data.float()
        if ".lora_A." in name:
            start = torch.empty(parameter.shape)
            torch.nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator("lora", config.seed, name))
            parameter.data.copy_(start)


@contextmanager
def lora(transformer: torch.nn.Module, config: AlignmentConfig) -> Iterator[None]:
    """Within the block the transformer carries a fresh LoRA; after it, none."""
    add_lora(transformer, config)
    try:
        yield
    finally:
        cast(Any, transformer).unload_lora()


def lora_parameters(transformer: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The trainable parameters by name, in the order of the names."""
    return {name: parameter for name, parameter in sorted(transformer.named_parameters()) if ".lora_" in name}


def lora_to_bytes(transformer: torch.nn.Module) -> bytes:
    """``pytorch_lora_weights.safetensors`` as ``WanVACEPipeline.save_lora_weights`` writes it.

    With the adapter's metadata, without which loading takes alpha for the rank. Deterministic bytes.
    """
    tensors = {f"transformer.{name}": tensor for name, tensor in _lora_state(transformer).items()}
    metadata = _collate_lora_metadata({"transformer": transformer})["transformer_lora_adapter_metadata"]
    prefixed = {f"transformer.{name}": value for name, value in metadata.items()}
    text = json.dumps(prefixed, indent=2, sort_keys=True)
    return _ordered(safetensors.torch.save(tensors, metadata={"format": "pt", LORA_ADAPTER_METADATA_KEY: text}))


def comfyui_lora_bytes(transformer: torch.nn.Module) -> bytes:
    """The same LoRA under the names that ComfyUI reads, those of the original Wan code; alpha as a tensor per layer."""
    alpha = float(cast(Any, transformer).peft_config["default"].lora_alpha)
    tensors = {}
    for name, tensor in _lora_state(transformer).items():
        layer, matrix = comfyui_name(name)
        tensors[f"{layer}.{matrix}.weight"] = tensor
        tensors[f"{layer}.alpha"] = torch.tensor(alpha)
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def comfyui_name(name: str) -> tuple[str, str]:
    """``blocks.3.attn2.to_k.lora_A.weight`` -> ``diffusion_model.blocks.3.cross_attn.k``, ``lora_A``."""
    found = re.fullmatch(r"((?:vace_)?blocks\.\d+)\.(attn[12])\.to_([qkv])\.(lora_[AB])\.weight", name)
    if found is None:
        raise ValueError(f"'{name}' is no LoRA weight of an attention q, k or v projection")
    block, attention, projection, matrix = found.groups()
    return f"diffusion_model.{block}.{_COMFYUI_ATTENTION[attention]}.{projection}", matrix


def _lora_state(transformer: torch.nn.Module) -> dict[str, Tensor]:
    state = get_peft_model_state_dict(transformer)
    return {name: whole(tensor.detach()).cpu().contiguous() for name, tensor in state.items()}


def _ordered(data: bytes) -> bytes:
    """The same safetensors file with its metadata in the order of the names; it is written in that of a hash map."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
