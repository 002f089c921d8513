"""Reach the pretrained model below a wrapper and an adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch


def unwrapped(transformer: torch.nn.Module) -> torch.nn.Module:
    """Return the transformer without the wrapper that several processes put on it (DistributedDataParallel)."""
    return cast(torch.nn.Module, getattr(transformer, "module", transformer))


@contextmanager
def adapter_off(transformer: torch.nn.Module) -> Iterator[None]:
    """Make the transformer the frozen model within the block. The switch freezes the adapter too; the end undoes it."""
    switch = cast(Any, unwrapped(transformer))
    if not getattr(switch, "_hf_peft_config_loaded", False):
        yield
        return
    switch.disable_adapters()
    try:
        yield
    finally:
        switch.enable_adapters()
