"""The reference p_ref is the pretrained model itself: the same weights with the adapter switched off, not a copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from ipa_core.alignment.batch import Batch, velocity_error
from ipa_core.config import AlignmentConfig
from ipa_core.models.animation import AnimationModel


@contextmanager
def adapter_off(transformer: torch.nn.Module) -> Iterator[None]:
    """Within the block the transformer is the base model. Switching also freezes the adapter, and is always undone."""
    switch = cast(Any, transformer)
    switch.disable_adapters()
    try:
        yield
    finally:
        switch.enable_adapters()


def reference_error(model: AnimationModel, batch: Batch, config: AlignmentConfig) -> Tensor:
    """e_ref ``[B]``, without gradient: computed as e_theta is, so that the two are equal before the first step."""
    # Several processes may have wrapped it (DistributedDataParallel).
    transformer = getattr(model.transformer, "module", model.transformer)
    with adapter_off(transformer), torch.no_grad():
        return velocity_error(model, batch, config)
