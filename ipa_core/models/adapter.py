"""The pretrained model itself, whatever adapter its transformer carries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch


def unwrapped(transformer: torch.nn.Module) -> torch.nn.Module:
    """The transformer itself, where several processes have wrapped it (DistributedDataParallel)."""
    return cast(torch.nn.Module, getattr(transformer, "module", transformer))


@contextmanager
def adapter_off(transformer: torch.nn.Module) -> Iterator[None]:
    """Within the block the transformer is the base model. Switching also freezes the adapter, and is always undone."""
    switch = cast(Any, unwrapped(transformer))
    if not getattr(switch, "_hf_peft_config_loaded", False):
        yield
        return
    switch.disable_adapters()
    try:
        yield
    finally:
        switch.enable_adapters()
