"""Guidance in two passes and as one batch."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from ipa_core.config import CandidatesConfig
from ipa_core.generation import guidance
from ipa_core.generation.guidance import Guidance
from ipa_core.generation.sampler import sample
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.generation.test_generation import CONDITIONING, SmallMemory


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


class Counting(SmallMemory):
    """Its velocity differs with and without guidance; counts the calls."""

    def velocity(self, latents: Tensor, t: Tensor, streams: Mapping[str, Tensor]) -> Tensor:
        super().velocity(latents)
        return torch.sin(3 * latents + streams["prompt_embeds"].mean())


def sampled(model: Counting, scheduler: str, until: float, scale: float = 3.0) -> Tensor:
    prompts = ({"prompt_embeds": torch.full((1, 2, 2), value)} for value in (0.0, 0.5))
    given = Conditioning(CONDITIONING.shared, *prompts, CONDITIONING.reference_latents, 9, 4, 4)
    return sample(model, given, [1, 2], settings(scheduler, until, scale))  # type: ignore[arg-type]


def settings(scheduler: str, until: float, scale: float = 3.0) -> CandidatesConfig:
    about = {"scheduler": scheduler, "steps": 6, "shift": 3.0, "guidance_scale": scale, "guidance_until": until}
    return CandidatesConfig.model_validate({"model": {"path": "unused"}, **about})


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
@pytest.mark.parametrize(("until", "guided"), [(0.0, 6), (0.8, 3), (1.0, 0)])
def test_steps_below_the_noise_level_take_one_pass(scheduler: str, until: float, guided: int) -> None:
    model = Counting(2)
    sampled(model, scheduler, until)
    assert len(model.batches) == 6 + guided == sum(settings(scheduler, until).passes)


def test_guidance_until_the_first_step_is_none_and_until_the_last_is_all() -> None:
    none, part, full = (sampled(Counting(2), "euler", until) for until in (1.0, 0.7, 0.0))
    assert torch.equal(none, sampled(Counting(2), "euler", 0.0, scale=1.0))
    lowest = settings("euler", 0.0).noise_levels[-1]
    assert torch.equal(full, sampled(Counting(2), "euler", lowest / 2))
    assert not torch.allclose(part, full) and not torch.allclose(part, none)


def test_a_real_model_without_guidance_at_the_end_goes_on_from_the_guided_steps(
    model: WanVACEModel, conditioning: Conditioning
) -> None:
    none, part, unguided = (
        sample(model, conditioning, [7], settings("euler", until, scale))
        for until, scale in ((1.0, 3.0), (0.7, 3.0), (0.0, 1.0))
    )
    assert torch.equal(none, unguided)
    assert not torch.allclose(part, none)
