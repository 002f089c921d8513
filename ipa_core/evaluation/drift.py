"""Measure how far an adapter has moved a model from its base: the price of a gain."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from ipa_core.models.adapter import adapter_off
from ipa_core.models.animation import AnimationModel
from ipa_core.models.conditioning import Conditioning

DRAWS: Final = 4
"""Noises of one clip, at t = 1/8, 3/8, 5/8 and 7/8."""


def velocity_drift(model: AnimationModel, conditioning: Conditioning, clean: Tensor, seed: int) -> float:
    """Return the distance between adapted and base velocity over the length of the base's, on the noised true clip:
    sqrt(sum |v - v_base|^2 / sum |v_base|^2) over :data:`DRAWS` draws. It is 0 for the base.

    clean: normalised latents of the true video ``[1, C, T', h, w]``.
    """
    clean = torch.cat([conditioning.reference_latents.to(clean), clean], dim=2)
    streams = conditioning.streams()
    source = torch.Generator().manual_seed(seed % 2**32)
    moved = total = 0.0
    for draw in range(DRAWS):
        t = torch.full((1,), (draw + 0.5) / DRAWS, device=clean.device)
        noise = torch.randn(clean.shape, generator=source).to(clean.device)
        noisy = (1 - t) * clean + t * noise
        with torch.no_grad():
            velocity = model.velocity(noisy, t, streams).float()
            with adapter_off(model.transformer):
                base = model.velocity(noisy, t, streams).float()
        moved += float((velocity - base).square().sum())
        total += float(base.square().sum())
    return round((moved / total) ** 0.5, 6)
