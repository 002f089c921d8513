"""Where a pipeline's parts lie, and which attention kernel samples: set by the machine, in no config.

Nothing here changes a result beyond rounding. On a GPU that holds everything, everything is on the GPU.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch

from ipa_core.models.folder import EXPERTS
from ipa_core.models.quantized import bytes_of

FAST_ATTENTION: Final = ("_flash_3", "flash")
"""diffusers' names of the kernels to try, the fastest first. Quantised ones (SageAttention) change results, so they are
not among them."""
SPLIT_ATTENTION: Final = ("flash",)
"""Those that diffusers can split over GPUs."""
_SHARE: Final = 0.6
"""Share of the GPU's memory that weights may take; the rest is for activations."""
_LARGEST: Final = 0.8
"""The same for a single transformer, when nothing else has to wait any more."""


@dataclass(frozen=True)
class Placement:
    """encoders_wait: text and image encoder are on the GPU only while they encode. experts_wait: only the expert at
    work is on the GPU. blocks_wait: blocks come to the GPU one by one, which is slower."""

    encoders_wait: bool = False
    experts_wait: bool = False
    blocks_wait: bool = False

    def __str__(self) -> str:
        waiting = [name.removesuffix("_wait") for name, waits in vars(self).items() if waits]
        return f"{', '.join(waiting)} wait in main memory" if waiting else "all on the device"


def placement(sizes: Mapping[str, int], encoders: Sequence[str], memory: float) -> Placement:
    """Return the placement for parts of these bytes, by their names, on a GPU with so many bytes of memory."""
    at_work = {name: size for name, size in sizes.items() if name not in encoders}
    experts = [size for name, size in at_work.items() if name.startswith("transformer")]
    return Placement(
        encoders_wait=sum(sizes.values()) > _SHARE * memory,
        experts_wait=len(experts) > 1 and sum(at_work.values()) > _SHARE * memory,
        blocks_wait=max(experts) > _LARGEST * memory,
    )


def sizes_of(pipeline: Any) -> dict[str, int]:
    """Return the bytes of each network of a pipeline."""
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {name: sum(bytes_of(weight) for weight in part.parameters()) for name, part in networks.items()}


def memory_of(device: torch.device) -> float:
    """Return the bytes of a device's own memory; infinity for the CPU, which has no other place to put things."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else float("inf")


def put(pipeline: Any, device: torch.device, placed: Placement, encoders: Sequence[str]) -> None:
    """Put the parts where they belong. What waits stays on the CPU, from which it is loaded."""
    for name in sizes_of(pipeline):
        part = pipeline.components[name]
        if name.startswith("transformer"):
            if placed.blocks_wait:
                part.enable_group_offload(
                    onload_device=device,
                    offload_type="block_level",
                    num_blocks_per_group=1,
                    use_stream=device.type == "cuda",
                )
            elif not placed.experts_wait or name == EXPERTS[-1]:  # The one for low noise mostly trains.
                part.to(device)
        elif not (placed.encoders_wait and name in encoders):
            part.to(device)


@contextmanager
def at_work(parts: Sequence[torch.nn.Module], device: torch.device) -> Iterator[None]:
    """Have the parts on the device within the block, and on the CPU afterwards."""
    for part in parts:
        part.to(device)
    try:
        yield
    finally:
        for part in parts:
            part.to("cpu")
        if device.type == "cuda":
            torch.cuda.empty_cache()


def fast_attention(
    transformers: Sequence[Any], device: torch.device, dtype: torch.dtype, names: Sequence[str] = FAST_ATTENTION
) -> str:
    """Return the fastest installed kernel, by diffusers' name. ``DIFFUSERS_ATTN_BACKEND``, where it is set, stands."""
    if device.type != "cuda" or dtype == torch.float32 or "DIFFUSERS_ATTN_BACKEND" in os.environ:
        return "native"
    hopper = torch.cuda.get_device_capability(device) >= (9, 0)
    for name in names if hopper else [name for name in names if name != "_flash_3"]:
        try:
            with attention(transformers, name):
                return name
        except (RuntimeError, ValueError):  # Not installed, or too old.
            continue
    return "native"


@contextmanager
def attention(transformers: Sequence[Any], name: str) -> Iterator[None]:
    """Compute attention with a kernel within the block, which may have no gradient, and as before afterwards."""
    if name == "native":
        yield
        return
    log = logging.getLogger("diffusers.models.modeling_utils")
    level = log.level
    log.setLevel(logging.ERROR)  # It warns at each call that the API may change.
    try:
        for transformer in transformers:
            transformer.set_attention_backend(name)
        yield
    finally:
        for transformer in transformers:
            transformer.set_attention_backend("native")
        log.setLevel(level)
