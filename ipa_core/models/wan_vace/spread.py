"""One pass of Wan-VACE's transformer over several processes, each with a GPU of its own (`execution.gpus_per_clip`).

The process that computes a clip leads and alone knows of seeds, steps and videos. Its helpers hold the same
transformer: they get the inputs of each pass, take part, and drop the result. Between the blocks each process has its
share of the tokens, within self-attention all tokens of its share of the heads. The result is that of one process up
to rounding.

Source: DeepSpeed-Ulysses (arXiv 2309.14509); the attention is diffusers' context parallel one (0.42). diffusers has no
plan for this transformer, its `enable_parallelism` needs an accelerator, and its gathering wants equal shares on a CPU.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
import torch.distributed as dist
from diffusers.models._modeling_parallel import ContextParallelConfig, ParallelConfig
from torch import Tensor, nn

from ipa_core.models.group import Helpers, Seat
from ipa_core.models.wan_vace import TRANSFORMER

_LEADER: Final = 0
"""Rank of the process that leads."""


class Share:
    """A process's part in the passes of its group; used within :meth:`at_work`. One group at a time in a process."""

    def __init__(self, transformer: nn.Module, device: torch.device, seat: Seat) -> None:
        """Wait for the others. ``transformer``: one of Wan-VACE, or a module with two."""
        self._transformers: list[Any] = [part for part in transformer.modules() if type(part).__name__ == TRANSFORMER]
        self._rank, self.size = seat.rank, seat.size
        self._lengths: list[int] = []
        """Number of tokens of each process in the pass under way."""
        for network in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(network, "lo")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        leave()
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            init_method=seat.meeting.as_uri(),
            rank=seat.rank,
            world_size=seat.size,
            timeout=seat.patience,
        )
        mesh = dist.device_mesh.init_device_mesh(device.type, (1, seat.size), mesh_dim_names=("ring", "ulysses"))
        self._split = ContextParallelConfig(ulysses_degree=seat.size)
        self._config = ParallelConfig(context_parallel_config=self._split)
        self._config.setup(seat.rank, seat.size, device, mesh=mesh)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        attentions = [
            part.processor
            for transformer in self._transformers
            for part in transformer.modules()
            if hasattr(getattr(part, "processor", None), "_parallel_config")
        ]
        with ExitStack() as undone:
            for attention in attentions:
                attention._parallel_config = self._config
                undone.callback(setattr, attention, "_parallel_config", None)
            for transformer in self._transformers:
                for hook in (
                    transformer.rope.register_forward_hook(self._positions),
                    # It alone reads the main stream; the next ones get it whole, and leave it.
                    transformer.vace_blocks[0].register_forward_pre_hook(self._control_begins),
                    transformer.blocks[0].register_forward_pre_hook(self._main_begins),
                    transformer.proj_out.register_forward_hook(self._ends),
                ):
                    undone.callback(hook.remove)
            yield

    def _positions(self, module: nn.Module, arguments: Any, rotations: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        tokens = rotations[0].shape[1]
        self._lengths = [len(part) for part in torch.arange(tokens).tensor_split(self.size)]
        self._split.ulysses_anything = tokens % self.size != 0  # It costs messages about lengths.
        return tuple(self._own(rotation) for rotation in rotations)

    def _control_begins(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        main, prompt, control, *others = arguments
        return self._own(main), prompt, self._own(control), *others

    def _main_begins(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        main, *others = arguments
        return self._own(main), *others

    def _own(self, whole: Tensor) -> Tensor:
        """Return this process's tokens of ``[B, N, ...]``."""
        return whole.tensor_split(self.size, dim=1)[self._rank]

    def _ends(self, module: nn.Module, arguments: Any, own: Tensor) -> Tensor:
        longest = max(self._lengths)
        padded = nn.functional.pad(own, (0, 0, 0, longest - own.shape[1])).contiguous()
        parts = [torch.empty_like(padded) for _ in self._lengths]
        dist.all_gather(parts, padded)
        return torch.cat([part[:, :length] for part, length in zip(parts, self._lengths, strict=True)], dim=1)


class Lead:
    """The leader's side: it takes its helpers along in each pass of a transformer within :meth:`at_work`."""

    def __init__(self, transformer: nn.Module, device: torch.device, helpers: Helpers) -> None:
        self.size = helpers.size
        self._transformer, self._device, self._helpers = transformer, device, helpers
        self._share: Share | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within the block each call of the transformer is shared. An error in it leaves the helpers amid a pass: they
        are ended, and new ones start with the next block. If a helper was its reason, the error says so."""
        if self._share is None:
            self._share = Share(self._transformer, self._device, self._helpers.begin())
        hook = self._transformer.register_forward_pre_hook(self._take_along, with_kwargs=True)
        try:
            with self._share.at_work():
                yield
        except BaseException as error:
            self._share = None
            reason = self._helpers.end()
            leave()
            if reason is not None and isinstance(error, Exception):
                raise reason from error
            raise
        finally:
            hook.remove()

    def _take_along(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = {name: value.contiguous() for name, value in named.items() if isinstance(value, Tensor)}
        kinds = {name: [list(value.shape), str(value.dtype).removeprefix("torch.")] for name, value in tensors.items()}
        rest = {name: value for name, value in named.items() if name not in tensors}
        self._helpers.tell(json.dumps({"tensors": kinds, "rest": rest}))
        for tensor in tensors.values():
            dist.broadcast(tensor, _LEADER)


def follow(transformer: nn.Module, device: torch.device, orders: Iterable[str]) -> None:
    """Take part in each pass that a :class:`Lead` tells of, within :meth:`Share.at_work`."""
    for order in orders:
        transformer(**_received(json.loads(order), device))


def _received(order: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    tensors = {}
    for name, (shape, dtype) in order["tensors"].items():
        tensors[name] = torch.empty(shape, dtype=getattr(torch, dtype), device=device)
        dist.broadcast(tensors[name], _LEADER)
    return tensors | order["rest"]


def leave() -> None:
    """Leave the group of this process, if it is in one. What it waits for on a GPU is given up."""
    if not dist.is_initialized():
        return
    if dist.is_nccl_available() and "nccl" in str(dist.get_backend_config()):
        dist.distributed_c10d._abort_process_group()
    else:
        dist.destroy_process_group()
