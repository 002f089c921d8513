"""Weights of a transformer in 8 bits (`candidates.model.quantization`), by torchao, for sampling alone.

Each output channel has a scale of its own. A product takes the weights back to the model's dtype, so this saves memory;
activations keep their bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import torch

from ipa_core.config import Quantization


def quantize(transformers: Sequence[torch.nn.Module], kinds: Sequence[str], bits: Quantization) -> None:
    """Quantise the linear layers of the repeated blocks, in place. ``kinds``: class names of the blocks.

    A LoRA that lies on them keeps its bits. Embeddings, modulations and the last layer do too: they are small.
    """
    # The flow says before any work when it is not installed.
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    settings = Int8WeightOnlyConfig() if bits == "int8" else Float8WeightOnlyConfig()
    for block in (part for one in transformers for part in one.modules() if type(part).__name__ in kinds):
        quantize_(block, settings, filter_fn=_is_base)


def _is_base(module: torch.nn.Module, name: str) -> bool:
    return isinstance(module, torch.nn.Linear) and ".lora_" not in name


def bytes_of(weight: torch.Tensor) -> int:
    """Return the bytes that a weight takes. A quantised one calls itself as large as it was."""
    if not hasattr(weight, "__tensor_flatten__"):
        return weight.nbytes
    parts, _ = weight.__tensor_flatten__()
    return sum(bytes_of(getattr(weight, part)) for part in parts)


def torchao_version() -> str:
    return f"torchao {version('torchao')}"
