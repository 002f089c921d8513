"""Guidance in two passes and as one batch."""

from __future__ import annotations

import pytest
import torch

from ipa_core.generation import guidance
from ipa_core.generation.guidance import Guidance
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_vace.model import WanVACEModel


def test_both_halves_as_one_batch_are_the_same_up_to_rounding(model: WanVACEModel, conditioning: Conditioning) -> None:
    streams = [{name: one.expand(2, *one.shape[1:]) for name, one in conditioning.streams(guided=guided).items()}
               for guided in (True, False)]  # fmt: skip
    latents = torch.randn(2, *model.latent_shape(conditioning), generator=torch.Generator().manual_seed(3))
    t = torch.tensor([0.7, 0.7])
    apart, together = (Guidance(model, *streams, 3.0) for _ in range(2))
    together.together = True
    with torch.no_grad():
        expected = apart.velocity(latents, t)
        torch.testing.assert_close(together.velocity(latents, t), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model.velocity(latents, t, streams[0]), expected, atol=1e-3)  # The guidance is felt.


def test_a_cpu_goes_one_after_the_other(model: WanVACEModel, conditioning: Conditioning) -> None:
    one = Guidance(model, conditioning.streams(), conditioning.streams(guided=False), 3.0)
    one.velocity(torch.zeros(1, *model.latent_shape(conditioning)), torch.tensor([0.5]))
    assert not one.together


@pytest.mark.parametrize(("taken", "free", "fits"), [(10, 24, True), (10, 23, False)])
def test_two_passes_need_more_than_twice_the_memory_of_one(taken: int, free: int, fits: bool) -> None:
    assert guidance._fits(taken, free) is fits
