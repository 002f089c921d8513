"""The adapter that is trained: a LoRA on the layers that the model names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model_state_dict

from ipa_core.alignment.draws import random_source
from ipa_core.alignment.processes import whole
from ipa_core.config import AlignmentConfig
from ipa_core.models.adapter import unwrapped
from ipa_core.models.animation import AnimationModel


def add_lora(model: AnimationModel, config: AlignmentConfig) -> None:
    """Freeze the transformer and add a trainable float32 LoRA that changes nothing yet (B = 0).

    A follows from the seed and the layer's name alone: it is the same on every device and for every set of targets.
    Raises ``ValueError`` when there is an adapter already: with both off, the model would not be the frozen model.
    """
    transformer = model.transformer
    if getattr(transformer, "peft_config", None):
        raise ValueError("the transformer carries a LoRA already: merge it into the weights (fuse_lora) or unload it")
    adapter = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=model.lora_targets(config))
    cast(Any, transformer).add_adapter(adapter)
    for name, parameter in lora_parameters(transformer).items():
        # peft gives a LoRA its layer's type. In bfloat16 most optimizer steps would round to nothing.
        parameter.data = parameter.data.float()
        if ".lora_A." in name:
            start = torch.empty(parameter.shape)
            torch.nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=random_source("lora", config.seed, name))
            parameter.data.copy_(start)


@contextmanager
def lora(model: AnimationModel, config: AlignmentConfig) -> Iterator[None]:
    """Put a fresh LoRA on the model's transformer within the block, and remove it afterwards."""
    transformer = model.transformer
    add_lora(model, config)
    try:
        yield
    finally:
        cast(Any, transformer).unload_lora()


def lora_parameters(transformer: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the trainable parameters by name, in the order of the names."""
    return {name: parameter for name, parameter in sorted(transformer.named_parameters()) if ".lora_" in name}


def lora_files(model: AnimationModel) -> dict[str, bytes]:
    """Return the LoRA's present files by name. Each of several processes must call this; all get the same files."""
    transformer = cast(Any, unwrapped(model.transformer))
    state = get_peft_model_state_dict(transformer)
    tensors = {name: whole(tensor.detach()).cpu().contiguous() for name, tensor in state.items()}
    return model.lora_files(tensors, transformer.peft_config["default"])
