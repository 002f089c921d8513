"""The processes of one training run. Each computes its share of every batch; all take the same step.

With ``ddp`` each holds the whole model and gradients are averaged. With ``fsdp2`` model, LoRA and optimizer are split
over the processes, block by block, and a block is put together while it computes.
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
    """This process (``rank`` of ``count``) among those that train together; the default is one alone."""

    rank: int = 0
    count: int = 1
    strategy: TrainStrategy = "ddp"

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    def share(self, batch_size: int, accumulation: int) -> slice:
        """Which of a batch's samples this process computes. Raises ``ValueError`` where the shares are not equal."""
        if batch_size % (self.count * accumulation):
            raise ValueError(
                f"alignment.batch_size is {batch_size}, which {self.count} processes can't share in {accumulation} "
                f"equal parts each: make it a multiple of {self.count * accumulation}, or change "
                "execution.train_processes"
            )
        size = batch_size // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of the processes' values."""
        if self.count == 1:
            return value
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total / self.count

    @contextmanager
    def spread(self, model: AnimationModel) -> Iterator[None]:
        """Within the block, gradients of the model's transformer come out averaged over the processes.

        With ``fsdp2`` its parameters are others than before, and it stays split: it is of no use after the training.
        """
        transformer = model.transformer
        if self.count > 1 and self.strategy == "fsdp2":
            _shard(transformer, model.blocks, model.device)
        elif self.count > 1:
            # All have loaded the same weights and nothing but the LoRA changes, so there is nothing to broadcast.
            model.transformer = torch.nn.parallel.DistributedDataParallel(transformer, init_sync=False)
        try:
            yield
        finally:
            model.transformer = transformer


@contextmanager
def launched(count: int, strategy: TrainStrategy, device: str) -> Iterator[Processes]:
    """The ``count`` processes that a launcher has started, this one among them, once all are there.

    Where ``device`` is ``cuda`` it is a GPU of its own within the block. Raises ``ValueError`` where there are fewer.
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
    # Not after an error: the others would be waited for, which only the launcher can end.
    state.destroy_process_group()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that is split over the processes, each of which must ask for it; another comes back as it is."""
    return cast(Any, tensor).full_tensor() if _is_split(tensor) else tensor


def as_held(value: Tensor, parameter: Tensor) -> Tensor:
    """``value``, the same in every process, on the parameter's device and split as that is."""
    value = value.to(parameter.device)
    if not _is_split(parameter):
        return value
    from torch.distributed.tensor import distribute_tensor

    split = cast(Any, parameter)
    # Each cuts its own part out of what all have: nothing is sent.
    return distribute_tensor(value, split.device_mesh, split.placements, src_data_rank=None)


def _is_split(tensor: Tensor) -> bool:
    # Asking by type would import what a single process never needs.
    return hasattr(tensor, "full_tensor")


def _shard(transformer: torch.nn.Module, blocks: tuple[str, ...], device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # Its last operation gives a view, which only matters to who would change it in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for module in transformer.modules():
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(transformer, mesh=mesh)
