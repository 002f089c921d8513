"""The Flow-IPA loss (Implicit Preference Alignment, arXiv 2605.07545): preference alignment from good samples only.

The samples stand for the preferred distribution q. The loss is -log sigmoid(beta * D). The gap
D = KL(q || p_ref) - KL(q || p_theta) says how much closer to q the aligned model p_theta is than the frozen model
p_ref. For rectified flow, one draw of (noise, t) estimates D by ``(1 - t)^2 / 2 * (e_ref - e_theta)``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from ipa_core.alignment.time_weight import TimeWeight, paper_weight


@dataclass(frozen=True)
class FlowIPALoss:
    """loss: scalar, the mean over the batch.
    gap: ``[B]``, ``e_ref - e_theta``: the paper's D without its factor ``(1 - t)^2 / 2``. It is above 0 where the model
        explains the preferred sample better than the frozen model does.
    logits: ``[B]``, ``x = beta * D``; 0 as long as the model equals the frozen model. The loss is ln 2 then.
    """

    loss: Tensor
    gap: Tensor
    logits: Tensor


def flow_ipa_loss(
    model_error: Tensor, reference_error: Tensor, t: Tensor, beta: float, weight: TimeWeight = paper_weight
) -> FlowIPALoss:
    """Return L = mean of -log sigmoid( beta/2 * (1 - t)^2 * (e_ref - e_theta) ).

    Args:
        model_error: e_theta ``[B]``, with gradient (see :func:`ipa_core.alignment.halo.halo_error`).
        reference_error: e_ref ``[B]`` of the same samples, noise and t; its gradient is ignored.
        t: ``[B]`` in [0, 1], 1 is pure noise.
        beta: strength of the pull towards the frozen model; the paper takes 600.
        weight: w(t) in the place of (1 - t)^2.

    A sample's gradient is the gradient of e_theta times :func:`error_weight`.
    """
    gap = reference_error.detach() - model_error
    logits = beta / 2 * weight(t) * gap
    return FlowIPALoss(loss=-logsigmoid(logits).mean(), gap=gap, logits=logits)


def error_weight(logits: Tensor, t: Tensor, beta: float, weight: TimeWeight = paper_weight) -> Tensor:
    """Return ``[B]``: beta/2 * (1 - t)^2 * sigmoid(-x), the factor of grad e_theta in a sample's gradient.

    It starts at ``beta/4 * (1 - t)^2`` and falls as the model learns a sample.
    """
    return beta / 2 * weight(t) * (-logits).sigmoid()
