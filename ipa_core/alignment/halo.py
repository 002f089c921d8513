"""HALO, hand-aware local optimisation: a flow-matching error that gives hands more weight (IPA, arXiv 2605.07545).

    e = mean over the latent elements of one sample of  W * (v - v_phi)^2,      W = 1 + lambda * M

v is the velocity target, v_phi a model's prediction, M the hand mask on the latent grid, lambda the hand weight. Latent
frames that hold the reference image keep weight 1: the model is given these hands and has nothing to learn about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class SquaredError:
    """Sums of the squared errors of B samples. The weighted error for any hand weight follows from them.

    everywhere: ``[B]``, the sum of (v - v_phi)^2 over all elements of a sample, reference frames included.
    on_hands: ``[B]``, the sum of M * (v - v_phi)^2.
    elements: number of latent elements of one sample.
    """

    everywhere: Tensor
    on_hands: Tensor
    elements: int

    def weighted(self, hand_weight: float, reduction: Reduction = "mean") -> Tensor:
        """Return e ``[B]`` for lambda = ``hand_weight``."""
        total = self.everywhere + hand_weight * self.on_hands
        return total / self.elements if reduction == "mean" else total


def squared_error(prediction: Tensor, target: Tensor, hand_mask: Tensor, reference_frames: int = 1) -> SquaredError:
    """Sum the squared error, everywhere and on hands, in float32 or the inputs' wider type. See :func:`halo_error`."""
    _check_shapes(prediction, target, hand_mask, reference_frames)
    wide = torch.promote_types(prediction.dtype, torch.float32)
    by_position = (prediction.to(wide) - target.to(wide)).square().sum(dim=1)  # [B, R + T', h, w]
    of_video = by_position[:, reference_frames:]
    mask = hand_mask.to(wide).reshape(of_video.shape)
    return SquaredError(
        everywhere=by_position.sum(dim=(1, 2, 3)),
        on_hands=(mask * of_video).sum(dim=(1, 2, 3)),
        elements=prediction[0].numel(),
    )


def halo_error(
    prediction: Tensor,
    target: Tensor,
    hand_mask: Tensor,
    hand_weight: float,
    reference_frames: int = 1,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the hand-weighted flow-matching error e ``[B]``, float32 or wider.

    Args:
        prediction: velocity ``[B, C, R + T', h, w]`` with the R reference frames in front.
        target: velocity of the same shape, ``noise - clean``.
        hand_mask: M in [0, 1], ``[B, T', h, w]`` or ``[B, 1, T', h, w]``, without the reference frames.
        hand_weight: lambda >= 0; 0 gives the plain mean squared error. The paper's public code has the final multiplier
            w of hand elements instead, W = 1 + (w - 1) * M: its w is ``hand_weight + 1``.
        reference_frames: R.
        reduction: ``mean`` over all elements of a sample, reference frames included (public code), or their ``sum``.

    Raises ``ValueError`` when the shapes do not belong together.
    """
    return squared_error(prediction, target, hand_mask, reference_frames).weighted(hand_weight, reduction)


def _check_shapes(prediction: Tensor, target: Tensor, hand_mask: Tensor, reference_frames: int) -> None:
    if prediction.ndim != 5 or prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must share one shape [B, C, R + T', h, w], "
            f"got {list(prediction.shape)} and {list(target.shape)}"
        )
    batch, _, frames, height, width = prediction.shape
    if not 0 <= reference_frames < frames:
        raise ValueError(f"reference_frames must leave a video frame of the {frames}, got {reference_frames}")
    expected = [batch, frames - reference_frames, height, width]
    if list(hand_mask.shape) not in (expected, [batch, 1, *expected[1:]]):
        raise ValueError(
            f"the hand mask must be {expected} or {[batch, 1, *expected[1:]]} for a prediction of "
            f"{list(prediction.shape)} with {reference_frames} reference frames, got {list(hand_mask.shape)}"
        )
