"""How much a draw at time t counts in the loss: ``w(t)``, with the mean 1/3 over t ~ U(0, 1) for every choice.

The paper weighs by (1 - t)^2, so the noise end teaches nearly nothing: with a sampler shift of 16, four fifths of the
sampler's steps lie at t > 0.8, where that weight has 0.8 % of its sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from ipa_core.config import AlignmentConfig, CandidatesConfig
from ipa_core.models.animation import AnimationModel

TimeWeight = Callable[[Tensor], Tensor]
"""Takes t ``[B]`` in [0, 1] and returns w ``[B]``."""
MEAN: Final = 1 / 3
"""Mean of (1 - t)^2. With the same mean, beta means the same for every weight."""


def paper_weight(t: Tensor) -> Tensor:
    """Return (1 - t)^2."""
    return (1 - t).square()


def flat_weight(t: Tensor) -> Tensor:
    """Return 1/3 for every t."""
    return torch.full_like(t, MEAN)


def sampler_weight(times: Tensor) -> TimeWeight:
    """Return the weight that follows the sampler: a step weighs the same, however short it is.

    times: ``[N]``, falling, the t at which the sampler asks the model. Step i goes from ``times[i]`` to the next, the
    last one to 0.
    """
    edges = torch.cat([times.new_zeros(1), times.flip(0)])
    edges[-1] = 1.0  # Some samplers start a little below pure noise.
    weights = MEAN / (len(times) * edges.diff())

    def weight(t: Tensor) -> Tensor:
        step = torch.bucketize(t.to(edges), edges[1:-1])
        return weights[step].to(t)

    return weight


def time_weight(config: AlignmentConfig, model: AnimationModel, sampling: CandidatesConfig | None) -> TimeWeight:
    """Return the weight of the config. ``sampling``: needed by ``time_weight: sampler`` alone."""
    match config.time_weight:
        case "paper":
            return paper_weight
        case "flat":
            return flat_weight
        case "sampler":
            if sampling is None:
                raise ValueError("alignment.time_weight: sampler needs the sampling settings of the candidates")
            scheduler = model.scheduler(sampling)
            scheduler.set_timesteps(sampling.steps, device=torch.device("cpu"))
            return sampler_weight(scheduler.timesteps.double() / 1000)
