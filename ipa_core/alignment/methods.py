"""The ways to learn, each one function of the errors of a batch. All share draws, frozen errors and HALO.

x = beta/2 * w(t) * (e_ref - e_theta) says how much likelier a sample has become (`ipa_core.alignment.loss`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor
from torch.nn.functional import logsigmoid

from ipa_core.alignment.loss import preference_logits

RATIO_RANGE: Final = 0.2
"""``awm``: a sample whose likelihood has changed by more than this share teaches no further (PPO's clipping)."""


@dataclass(frozen=True)
class Errors:
    """Of B samples, each ``[B]``.

    model: e_theta, with gradient. reference: e_ref. moved: the weighted square of the distance between both velocities,
    with gradient, where the frozen velocity was computed. weight: beta/2 * w(t).
    advantage: a sample's reward minus its clip's mean, in [-1, 1].
    """

    model: Tensor
    reference: Tensor
    moved: Tensor | None
    weight: Tensor
    advantage: Tensor

    @property
    def logits(self) -> Tensor:
        """x, with gradient."""
        return preference_logits(self.model, self.reference, self.weight)


def ipa(errors: Errors) -> Tensor:
    """IPA (arXiv 2605.07545): kept samples become likelier. Equals `loss.flow_ipa_loss`."""
    return -logsigmoid(errors.logits)


def flow_dpo(errors: Errors) -> Tensor:
    """Flow-DPO (Liu et al., 2025, arXiv 2501.13918): the winner gains more than the loser, which follows it in the
    batch. Returns ``[B / 2]``."""
    x = errors.logits
    return -logsigmoid(x[::2] - x[1::2])


def kto(errors: Errors) -> Tensor:
    """Unpaired (arXiv 2605.04653, after KTO, arXiv 2402.01306): likelier above the clip's mean reward, less likely
    below it; the distance from the mean weighs."""
    return -errors.advantage.abs() * logsigmoid(errors.advantage.sign() * errors.logits)


def awm(errors: Errors) -> Tensor:
    """Advantage-weighted matching (arXiv 2509.25050): the advantage times the likelihood ratio, clipped, so that losers
    are not pushed away for ever."""
    ratio = errors.logits.exp()
    clipped = ratio.clamp(1 - RATIO_RANGE, 1 + RATIO_RANGE)
    return -(errors.advantage * ratio).minimum(errors.advantage * clipped)


def nft(errors: Errors) -> Tensor:
    """DiffusionNFT (arXiv 2509.16117) with v_old = v_ref: r |v+ - v|^2 + (1 - r) |v- - v|^2 - |v_old - v|^2, where v is
    the target, v+ the model's velocity, v- its mirror image about the old one, and r = 1/2 + advantage/2."""
    assert errors.moved is not None
    # |v+- - v|^2 = e_ref +- across + moved, with the product of both differences in the middle.
    across = errors.model - errors.reference.detach() - errors.moved
    return 2 * errors.weight * (errors.advantage * across + errors.moved)


METHODS: Final[Mapping[str, Callable[[Errors], Tensor]]] = {
    "ipa": ipa,
    "dpo": flow_dpo,
    "kto": kto,
    "awm": awm,
    "nft": nft,
}
