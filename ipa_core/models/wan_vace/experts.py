"""The two transformers of Wan 2.2, which share the noise levels between them, as one module that carries a LoRA."""

from __future__ import annotations

from typing import Any, Final

import torch
from diffusers.loaders.peft import PeftAdapterMixin
from torch import Tensor

_OF_A_SAMPLE: Final = ("hidden_states", "timestep", "encoder_hidden_states", "control_hidden_states")
"""Arguments whose first dimension is the batch."""


class Experts(torch.nn.Module, PeftAdapterMixin):
    """``transformer`` predicts for timesteps from the boundary up, ``transformer_2`` for those below it, as diffusers'
    pipeline has it. Layers and LoRA weights begin with these names. Samples of one batch may go to both."""

    def __init__(self, high: torch.nn.Module, low: torch.nn.Module, boundary_ratio: float) -> None:
        super().__init__()
        self.transformer = high
        self.transformer_2 = low
        self.boundary = 1000 * boundary_ratio
        """The timestep, in [0, 1000], from which on the first expert predicts."""
        self.alone_on: torch.device | None = None
        """Where the expert at work comes to, while the other waits in main memory. None: both stay where they are."""

    def forward(self, **arguments: Any) -> tuple[Tensor]:
        is_high = arguments["timestep"] >= self.boundary
        if is_high.all() or not is_high.any():
            return self._predicted(bool(is_high[0]), arguments)
        parts = {high: self._predicted(high, _chosen(arguments, is_high == high))[0] for high in (True, False)}
        whole = torch.empty((len(is_high), *parts[True].shape[1:]), dtype=parts[True].dtype, device=parts[True].device)
        for high, part in parts.items():
            whole = whole.index_copy(0, (is_high == high).nonzero().flatten(), part)
        return (whole,)

    def _predicted(self, high: bool, arguments: dict[str, Any]) -> tuple[Tensor]:
        expert, other = (self.transformer, self.transformer_2)[:: 1 if high else -1]
        if self.alone_on is not None and next(expert.parameters()).device != self.alone_on:
            other.to("cpu")
            expert.to(self.alone_on)
        found: tuple[Tensor] = expert(**arguments)
        return found

    def enable_gradient_checkpointing(self) -> None:
        for expert in (self.transformer, self.transformer_2):
            expert.enable_gradient_checkpointing()  # type: ignore[operator]

    def disable_gradient_checkpointing(self) -> None:
        for expert in (self.transformer, self.transformer_2):
            expert.disable_gradient_checkpointing()  # type: ignore[operator]


def _chosen(arguments: dict[str, Any], samples: Tensor) -> dict[str, Any]:
    return {name: value[samples] if name in _OF_A_SAMPLE else value for name, value in arguments.items()}
