"""A training run that can be continued: adapter, optimizer and history in one safetensors file, no pickle.

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
    """Where one run keeps its newest checkpoint."""

    def load(self) -> bytes | None:
        """What was saved last, if anything."""

    def save(self, step: int, data: bytes) -> None:
        """Keep ``data``, the state after ``step`` optimizer steps; it replaces what was saved before."""


_HISTORY = TypeAdapter(tuple[StepLog, ...])


@dataclass(frozen=True)
class Checkpoint:
    """The state after ``len(history)`` optimizer steps; tensors on the CPU, by parameter name.

    optimizer: of each parameter AdamW's ``step``, ``exp_avg`` and ``exp_avg_sq``.
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
        # Loaded in the order of a hash map. The processes of a run talk tensor by tensor, in the order of this.
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
    """The state of a run as it stands. Of several processes each must ask; all get the same."""
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
    """Put a captured state back, in place. Raises ``ValueError`` where it belongs to another adapter."""
    saved = {name: list(tensor.shape) for name, tensor in checkpoint.adapter.items()}
    if saved != {name: list(parameter.shape) for name, parameter in parameters.items()}:
        raise ValueError("the checkpoint belongs to a LoRA with other layers or another rank than this run's")
    for name, parameter in parameters.items():
        parameter.data.copy_(as_held(checkpoint.adapter[name], parameter))
        # AdamW keeps its step count, a scalar, on the CPU.
        optimizer.state[parameter] = {
            entry: as_held(value, parameter) if value.ndim else value
            for entry, value in checkpoint.optimizer[name].items()
        }
