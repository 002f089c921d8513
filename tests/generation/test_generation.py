"""Batches, memory, progress and seeds; that the numbers are right is tested against the pipeline."""

import operator
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from ipa_core.config import CandidatesConfig, ModelConfig
from ipa_core.generation.candidates import generate
from ipa_core.generation.sampler import sample
from ipa_core.generation.seeds import candidate_seed
from ipa_core.models.animation import Scheduler
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_vace.model import WanVACEModel, wan_scheduler

CONFIG = CandidatesConfig(
    model=ModelConfig(path="unused", dtype="float32"), steps=2, scheduler="euler", shift=5.0, guidance_scale=1.0
)


class SmallMemory:
    """A model whose device holds ``limit`` samples; remembers the batches it was given."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.batches: list[int] = []
        self.device = torch.device("cpu")

    def latent_shape(self, conditioning: Conditioning) -> tuple[int, int, int, int]:
        return 2, 3, 4, 4

    def scheduler(self, config: CandidatesConfig) -> Scheduler:
        return wan_scheduler(config)

    def sampling(self) -> nullcontext[None]:
        return nullcontext()

    def velocity(self, latents: Tensor, *_: object) -> Tensor:
        self.batches.append(len(latents))
        if len(latents) > self.limit:
            raise torch.OutOfMemoryError
        return latents / 2


CONDITIONING = Conditioning({"control": torch.zeros(1, 2, 3, 4, 4)}, {}, None, torch.zeros(1, 2, 1, 4, 4), 9, 4, 4)


@pytest.mark.parametrize(
    ("limit", "batches"),
    [(5, [5, 5]), (3, [5, 3, 3, 2, 2]), (1, [5, 3, 2, *[1] * 10])],
    ids=["enough", "half", "one at a time"],
)
def test_a_batch_that_does_not_fit_is_halved(limit: int, batches: list[int]) -> None:
    model = SmallMemory(limit)

    sample(model, CONDITIONING, [1, 2, 3, 4, 5], CONFIG)

    assert model.batches == batches


def test_halved_batches_give_every_seed_its_own_latents() -> None:
    whole, halved = (sample(SmallMemory(limit), CONDITIONING, [1, 2, 3, 4, 5], CONFIG) for limit in (5, 2))

    assert torch.equal(whole, halved)


def test_one_seed_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        sample(SmallMemory(0), CONDITIONING, [1, 2], CONFIG)


def test_progress_counts_the_steps_of_all_seeds() -> None:
    told: list[tuple[int, int]] = []

    sample(SmallMemory(2), CONDITIONING, [1, 2, 3], CONFIG, lambda done, total: told.append((done, total)))

    # A third step of each seed is its decoding.
    assert told == [(2, 9), (4, 9), (5, 9), (6, 9)]


def test_guidance_without_a_negative_prompt_is_an_error() -> None:
    with pytest.raises(ValueError, match="encoded without one"):
        sample(SmallMemory(1), CONDITIONING, [1], CONFIG.model_copy(update={"guidance_scale": 2.0}))


def test_generated_videos_are_the_decoded_latents(model: WanVACEModel, conditioning: Conditioning) -> None:
    generated = generate(model, conditioning, [7, 8], CONFIG)

    assert generated.seeds == (7, 8)
    assert np.array_equal(generated.videos[1], model.decode(generated.latents[1:])[0])


def test_conditioning_from_the_store_generates_the_same(model: WanVACEModel, conditioning: Conditioning) -> None:
    stored = Conditioning.from_bytes(conditioning.to_bytes())

    assert torch.equal(sample(model, stored, [7], CONFIG), sample(model, conditioning, [7], CONFIG))


@pytest.mark.parametrize("network", ["transformer", "vae.decoder"])
def test_a_broken_weight_fails_instead_of_making_a_black_video(
    model: WanVACEModel, conditioning: Conditioning, network: str
) -> None:
    weight = next(operator.attrgetter(network)(model.pipeline).parameters())
    before = weight.data.clone()
    weight.data.view(-1)[0] = float("nan")
    try:
        with pytest.raises(FloatingPointError, match="NaN or infinite"):
            generate(model, conditioning, (1,), CONFIG)
    finally:
        weight.data = before


def test_bfloat16_latents_are_handed_on_as_float32() -> None:
    class InBfloat16(SmallMemory):
        def velocity(self, latents: Tensor, *_: object) -> Tensor:
            return latents.bfloat16()

    assert sample(InBfloat16(1), CONDITIONING, [1], CONFIG).dtype == torch.float32


@pytest.mark.parametrize(
    ("number", "seed", "expected"),
    [(0, 0, 6639016435573239681), (1, 0, 2978897099825037159), (0, 1, 7304184090194838569)],
    ids=["first", "second", "other run seed"],
)
def test_seeds_never_change(number: int, seed: int, expected: int) -> None:
    assert candidate_seed("ab" * 32, number, seed) == expected
