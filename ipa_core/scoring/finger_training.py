"""Train the finger network (scoring.fingers) on crops of faultless and spoilt hands."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from ipa_core.scoring.fingers import FingerNetwork, as_input

log = logging.getLogger(__name__)
BATCH: Final = 96
LEARNING_RATE: Final = 2e-3
_LEAST_CHANGED = 0.012
"""Least share of the crop's pixels that a visible fault changes. An erased finger that was folded shows nothing."""
_VISIBLE = 22
"""A larger change, in grey levels, is visible."""


def shows(whole: np.ndarray, spoilt: np.ndarray) -> bool:
    """Return whether the fault is visible. Both crops are uint8 ``[SIZE, SIZE, 5]``."""
    change = np.abs(whole[..., :3].astype(np.int16) - spoilt[..., :3]).max(axis=2)
    return bool((change > _VISIBLE).mean() >= _LEAST_CHANGED)


def train(crops: np.ndarray, whole: np.ndarray, weights: Path, *, steps: int, seed: int = 0) -> None:
    """Fit the network to crops uint8 ``[N, SIZE, SIZE, 5]`` and labels bool ``[N]``, and write it to ``weights``
    (safetensors). Training draws both classes equally often."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = FingerNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15)
    places = np.flatnonzero(whole), np.flatnonzero(~whole)
    started, total = time.monotonic(), 0.0
    network.train()
    for step in range(1, steps + 1):
        drawn = np.concatenate([rng.choice(place, BATCH // 2) for place in places])
        batch = augment(as_input(crops[drawn]), torch.Generator().manual_seed(int(rng.integers(2**31))))
        labels = torch.from_numpy(whole[drawn]).float()
        loss = F.binary_cross_entropy_with_logits(network(batch), labels * 0.96 + 0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 50 == 0:
            left = (time.monotonic() - started) / step * (steps - step)
            log.info("fingers: step %d of %d, loss %.3f, about %.0f s left", step, steps, total / 50, left)
            total = 0.0
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, weights)


def augment(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add the colours, texture, softness and noise that renderings lack, to ``[N, 5, S, S]`` in [0, 1]. The skeleton
    follows its hand in the picture, with an error like a detector's."""
    count, _, side, _ = batch.shape

    def draw(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    if torch.rand((), generator=generator) < 0.5:
        batch = batch.flip(3)
    angle, scale = draw(-0.3, 0.3, count), draw(0.85, 1.2, count)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2) * scale[:, None, None]
    shift = draw(-0.08, 0.08, count, 2, 1)
    error = shift + draw(-0.035, 0.035, count, 2, 1)
    shape = [count, 3, side, side]
    grids = [F.affine_grid(torch.cat([turn, move], 2), shape, align_corners=False) for move in (shift, error)]
    picture = F.grid_sample(batch[:, :3], grids[0], padding_mode="border", align_corners=False)
    drawn = F.grid_sample(batch[:, 3:], grids[1], align_corners=False)
    # Renderings have no texture: add it in several coarsenesses over everything, also over skin.
    for cells in (5, 13, 40):
        pattern = torch.randn(count, 3, cells, cells, generator=generator)
        pattern = F.interpolate(pattern, (side, side), mode="bicubic", align_corners=False)
        picture = picture + draw(0, 0.025, count, 1, 1, 1) * pattern
    grey = picture.mean(1, keepdim=True)
    picture = grey + draw(0.5, 1.3, count, 1, 1, 1) * (picture - grey)
    centre = picture.mean((2, 3), keepdim=True)
    picture = centre + draw(0.6, 1.5, count, 1, 1, 1) * (picture - centre)
    picture = picture * draw(0.85, 1.15, count, 3, 1, 1) + draw(-0.08, 0.08, count, 1, 1, 1)
    # Shrinking and enlarging imitates small hands and soft decoders.
    small = int(draw(28, side, 1).item())
    soft = F.interpolate(F.interpolate(picture, (small, small), mode="area"), (side, side), mode="bilinear")
    keep = (torch.rand(count, 1, 1, 1, generator=generator) < 0.5).float()
    picture = keep * picture + (1 - keep) * soft
    picture = picture + draw(0, 0.025, count, 1, 1, 1) * torch.randn(picture.shape, generator=generator)
    return torch.cat([picture.clamp(0, 1), drawn], 1)
