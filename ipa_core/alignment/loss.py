"""The Flow-IPA loss (Implicit Preference Alignment, arXiv 2605.07545): preference alignment from good samples only.

The samples stand for the preferred distribution q. The loss is -log sigmoid(beta * D) with the gap
D = KL(q || p_ref) - KL(q || p_theta): how much closer to q the aligned model p_theta has come than the frozen
reference p_ref. For rectified flow, one draw of (noise, t) estimates D by ``(1 - t)^2 / 2 * (e_ref - e_theta)``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class FlowIPALoss:
    """loss: scalar, the mean over the batch.
    gap: ``[B]``, ``e_ref - e_theta``: the paper's D up to its factor ``(1 - t)^2 / 2``; above 0 where the model
        explains the preferred sample better than the reference does.
    logits: ``[B]``, ``x = beta * D``; 0 as long as the model equals the reference, where the loss is ln 2.
    """

    loss: Tensor
    gap: Tensor
    logits: Tensor


def flow_ipa_loss(model_error: Tensor, reference_error: Tensor, t: Tensor, beta: float) -> FlowIPALoss:
    """L = mean of -log sigmoid( beta/2 * (1 - t)^2 * (e_ref - e_theta) ).

    Args:
        model_error: e_theta ``[B]``, with gradient (see :func:`ipa_core.alignment.halo.halo_error`).
        reference_error: e_ref ``[B]`` of the same samples, noise and t; its gradient is ignored.
        t: ``[B]`` in [0, 1], 1 is pure noise.
        beta: strength of the pull towards the reference; the paper takes 600.

    The gradient is that of e_theta times :func:`error_weight`.
    """
    gap = reference_error.detach() - model_error
    logits = beta / 2 * (1 - t).square() * gap
    return FlowIPALoss(loss=-logsigmoid(logits).mean(), gap=gap, logits=logits)


def error_weight(logits: Tensor, t: Tensor, beta: float) -> Tensor:
    """``[B]``: w = beta/2 * (1 - t)^2 * sigmoid(-x), the factor with which grad e_theta enters a sample's gradient.

    It starts at ``beta/4 * (1 - t)^2`` and fades as a sample is learnt.
    """
    return beta / 2 * (1 - t).square() * (-logits).sigmoid()
