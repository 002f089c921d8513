"""The Flow-IPA loss (Implicit Preference Alignment, arXiv 2605.07545): preference alignment from good samples only.

The samples stand for the preferred distribution q. The loss is -log sigmoid(beta * D). The gap
D = KL(q || p_ref) - KL(q || p_theta) says how much closer to q the aligned model p_theta is than the frozen model
p_ref. For rectified flow, one draw of (noise, t) estimates D by ``(1 - t)^2 / 2 * (e_ref - e_theta)``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from ipa_core.alignment.time_weight import paper_weight


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


def flow_ipa_loss(model_error: Tensor, reference_error: Tensor, t: Tensor, beta: float) -> FlowIPALoss:
    """Return L = mean of -log sigmoid( beta/2 * (1 - t)^2 * (e_ref - e_theta) ).

    Args:
        model_error: e_theta ``[B]``, with gradient (see :func:`ipa_core.alignment.halo.halo_error`).
        reference_error: e_ref ``[B]`` of the same samples, noise and t; its gradient is ignored.
        t: ``[B]`` in [0, 1], 1 is pure noise.
        beta: strength of the pull towards the frozen model; the paper takes 600.

    A sample's gradient is the gradient of e_theta times :func:`error_weight`.
    """
    gap = reference_error.detach() - model_error
    logits = preference_logits(model_error, reference_error, beta / 2 * paper_weight(t))
    return FlowIPALoss(loss=-logsigmoid(logits).mean(), gap=gap, logits=logits)


def preference_logits(model_error: Tensor, reference_error: Tensor, weight: Tensor) -> Tensor:
    """Return x ``[B]`` = weight * (e_ref - e_theta): how much likelier the samples have become. All ways to learn share
    it (:mod:`ipa_core.alignment.methods`).

    weight: ``[B]``, beta/2 * w(t); the paper's w(t) is (1 - t)^2. The gradient of e_ref is ignored.
    """
    return weight * (reference_error.detach() - model_error)


def error_weight(logits: Tensor, weight: Tensor) -> Tensor:
    """Return ``[B]``: weight * sigmoid(-x), the factor of grad e_theta in the gradient of IPA's loss.

    It starts at half of ``weight`` and falls as the model learns a sample.
    """
    return weight * (-logits).sigmoid()
