"""Checkpoints of a training run: adapter, optimizer and history in one safetensors file, without pickle.

Nothing else has a state: sample order, noise and t follow from the step number (see draws).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import safetensors.torch
import torch
from pydantic import TypeAdapter
from torch import Tensor

from ipa_core.alignment.log import StepLog
from ipa_core.alignment.processes import as_held, whole


class CheckpointSlot(Protocol):
    """Keeps the newest checkpoint of one run."""

    def load(self) -> bytes | None:
        """Return the bytes that were saved last, or None."""

    def save(self, step: int, data: bytes) -> None:
        """Replace the saved bytes with ``data``, the state after ``step`` optimizer steps."""


_HISTORY = TypeAdapter(tuple[StepLog, ...])


@dataclass(frozen=True)
class Checkpoint:
    """The state after ``len(history)`` optimizer steps, with tensors on the CPU by parameter name.

    optimizer: AdamW's ``step``, ``exp_avg`` and ``exp_avg_sq`` of each parameter that has had a gradient.
    """

    adapter: dict[str, Tensor]
    optimizer: dict[str, dict[str, Tensor]]
    history: tuple[StepLog, ...]

    def to_bytes(self) -> bytes:
        tensors = {f"adapter/{name}": tensor for name, tensor in self.adapter.items()}
        for name, state in self.optimizer.items():
            tensors |= {f"optimizer/{name}/{entry}": tensor for entry, tensor in state.items()}
        return safetensors.torch.save(tensors, metadata={"history": _HISTORY.dump_json(self.history).decode()})

    @classmethod
    def from_bytes(cls, data: bytes) -> Checkpoint:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        adapter: dict[str, Tensor] = {}
        optimizer: dict[str, dict[str, Tensor]] = {}
        # Sorted, because a hash map orders the loaded tensors and all processes must exchange them in the same order.
        for path, tensor in sorted(safetensors.torch.load(data).items()):
            kind, name, *entry = path.split("/")
            if kind == "adapter":
                adapter[name] = tensor
            else:
                optimizer.setdefault(name, {})[entry[0]] = tensor
        return cls(adapter, optimizer, _HISTORY.validate_json(header["__metadata__"]["history"]))


def capture(
    parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, history: Sequence[StepLog]
) -> Checkpoint:
    """Return the present state of a run. Each of several processes must call this; all get the same state."""
    return Checkpoint(
        adapter={name: whole(parameter.detach()).cpu() for name, parameter in parameters.items()},
        optimizer={
            name: {entry: whole(value).cpu() for entry, value in optimizer.state[parameter].items()}
            for name, parameter in parameters.items()
        },
        history=tuple(history),
    )


def restore(
    checkpoint: Checkpoint, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Copy a captured state into parameters and optimizer. Raises ``ValueError`` when the adapter is another one."""
    saved = {name: list(tensor.shape) for name, tensor in checkpoint.adapter.items()}
    if saved != {name: list(parameter.shape) for name, parameter in parameters.items()}:
        raise ValueError("the checkpoint belongs to a LoRA with other layers or another rank than this run's")
    for name, parameter in parameters.items():
        parameter.data.copy_(as_held(checkpoint.adapter[name], parameter))
        # AdamW keeps its step count, a scalar, on the CPU.
        optimizer.state[parameter] = {
            entry: as_held(value, parameter) if value.ndim else value
            for entry, value in checkpoint.optimizer.get(name, {}).items()
        }
