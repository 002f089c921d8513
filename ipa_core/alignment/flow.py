"""Rectified flow: the straight path between a clean latent and noise (Liu et al., 2022, arXiv 2209.03003).

``t = 1`` is pure noise: ``z_t = (1 - t) * clean + t * noise``, and the velocity along the path is ``noise - clean``.
"""

from __future__ import annotations

from torch import Tensor


def interpolate(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return the point at ``t [B]`` in [0, 1] on the path from ``clean`` (0) to ``noise`` (1), both ``[B, ...]``."""
    t = t.reshape(-1, *[1] * (clean.ndim - 1))
    return (1 - t) * clean + t * noise


def flow_target(clean: Tensor, noise: Tensor) -> Tensor:
    """Return the velocity v that a flow model should predict everywhere on the path."""
    return noise - clean


def unshift_timesteps(t: float, shift: float) -> float:
    """Return the t that :func:`shift_timesteps` moves to ``t``."""
    return t / (shift - (shift - 1) * t)


def shift_timesteps(t: Tensor, shift: float) -> Tensor:
    """Move ``t`` in [0, 1] towards noise by ``shift`` >= 1, as flow-matching samplers do (Esser et al., 2024, arXiv
    2403.03206). Both ends stay; a shift of 1 changes nothing."""
    return shift * t / (1 + (shift - 1) * t)
