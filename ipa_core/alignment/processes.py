"""The processes of one training run. Each process computes its share of every batch, and all take the same step.

With ``ddp`` each process holds the whole model, and gradients are averaged. With ``fsdp2`` each process holds a part of
every block's weights, LoRA and optimizer state; a block is put together while it computes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed
from torch import Tensor

from ipa_core.config import TrainStrategy
from ipa_core.models.animation import AnimationModel


@dataclass(frozen=True)
class Processes:
    """This process (``rank`` of ``count``) among the processes that train together. The default is a single process."""

    rank: int = 0
    count: int = 1
    strategy: TrainStrategy = "ddp"

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def share(self, batch_size: int, accumulation: int) -> slice:
        """Return this process's share of a batch's samples. Raises ``ValueError`` when the shares are not equal."""
        if batch_size % (self.count * accumulation):
            raise ValueError(
                f"alignment.batch_size is {batch_size}, which {self.count} processes can't share in {accumulation} "
                f"equal parts each: make it a multiple of {self.count * accumulation}, or change "
                "execution.train_processes"
            )
        size = batch_size // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def mean(self, value: Tensor) -> Tensor:
        if self.count == 1:
            return value
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total / self.count

    @contextmanager
    def spread(self, model: AnimationModel) -> Iterator[None]:
        """Average the gradients of the model's transformer over the processes within the block.

        ``fsdp2`` replaces the transformer's parameters and leaves them split: the model is useless after the training.
        """
        transformer = model.transformer
        if self.count > 1 and self.strategy == "fsdp2":
            _shard(transformer, model.blocks, model.device)
        elif self.count > 1:
            # All processes have loaded the same weights and only the LoRA changes, so there is nothing to broadcast.
            model.transformer = torch.nn.parallel.DistributedDataParallel(transformer, init_sync=False)
        try:
            yield
        finally:
            model.transformer = transformer


@contextmanager
def launched(count: int, strategy: TrainStrategy, device: str) -> Iterator[Processes]:
    """Wait for all ``count`` processes that a launcher has started, and yield this one.

    Within the block ``cuda`` is this process's own GPU. Raises ``ValueError`` when there are fewer GPUs than processes.
    """
    if count == 1:
        yield Processes()
        return
    from accelerate import PartialState

    if device == "cuda" and count > torch.cuda.device_count():
        raise ValueError(
            f"execution.train_processes is {count}, each needs a GPU of its own, and this machine has "
            f"{torch.cuda.device_count()}"
        )
    state = PartialState(cpu=device == "cpu")
    yield Processes(state.process_index, state.num_processes, strategy)
    # Not after an error: this call would wait for the other processes, and only the launcher can end them.
    state.destroy_process_group()


def whole(tensor: Tensor) -> Tensor:
    """Return a split tensor as a whole; every process must call this. Return a tensor that is not split unchanged."""
    return cast(Any, tensor).full_tensor() if _is_split(tensor) else tensor


def as_held(value: Tensor, parameter: Tensor) -> Tensor:
    """Put ``value``, the same in every process, on the parameter's device and split it like the parameter."""
    value = value.to(parameter.device)
    if not _is_split(parameter):
        return value
    from torch.distributed.tensor import distribute_tensor

    split = cast(Any, parameter)
    # Every process has the whole value and cuts out its own part: nothing is sent.
    return distribute_tensor(value, split.device_mesh, split.placements, src_data_rank=None)


def _is_split(tensor: Tensor) -> bool:
    # A check of the type would import a module that a single process never needs.
    return hasattr(tensor, "full_tensor")


def _shard(transformer: torch.nn.Module, blocks: tuple[str, ...], device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # The returned view matters only to code that changes it in place, and no code here does.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for module in transformer.modules():
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(transformer, mesh=mesh)
