"""Weights of t: the same mean, and the sampler's own density."""

import pytest
import torch

from ipa_core.alignment.time_weight import flat_weight, paper_weight, sampler_weight, time_weight
from ipa_core.alignment.trainer import train
from ipa_core.config import AlignmentConfig, CandidatesConfig, ModelConfig
from tests.alignment.samples import make_samples
from tests.alignment.test_training import CONFIG, Slot

T = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
SHIFTED = CandidatesConfig(model=ModelConfig(path="none"), scheduler="euler", steps=50, shift=16)


@pytest.mark.parametrize("weight", [paper_weight, flat_weight, sampler_weight(torch.tensor([1.0, 0.9, 0.5]).double())])
def test_every_weight_has_the_mean_of_the_papers(weight):
    assert weight(T).mean().item() == pytest.approx(1 / 3, rel=1e-4)


def test_each_step_of_the_sampler_weighs_the_same():
    """Steps from 1 to .8, to .3, to 0: densities 1/(3 * .2), 1/(3 * .5), 1/(3 * .3), times the mean 1/3."""
    weight = sampler_weight(torch.tensor([1.0, 0.8, 0.3], dtype=torch.float64))
    found = weight(torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)).tolist()
    assert found == pytest.approx([1 / 2.7, 1 / 2.7, 1 / 4.5, 1 / 1.8, 1 / 1.8])


def test_a_shift_of_16_has_four_fifths_of_its_weight_where_the_paper_has_none(model):
    weight = time_weight(AlignmentConfig(time_weight="sampler"), model, SHIFTED)(T)
    noise = T > 0.8
    assert (weight[noise].sum() / weight.sum()).item() == pytest.approx(0.8, abs=0.03)
    assert (paper_weight(T)[noise].sum() / paper_weight(T).sum()).item() == pytest.approx(0.008, abs=1e-4)


def test_a_training_takes_the_weight(model):
    """Before the first step x = 0, so e_theta's factor is half of beta/2 * w(t), whatever t is."""
    config = CONFIG.model_copy(update={"time_weight": "flat", "steps": 1})
    trained = train(model, make_samples(5), config, checkpoints=Slot(), on_step=lambda log: None)
    assert trained.history[0].weight == pytest.approx(config.beta / 2 / 3 / 2)


def test_shifted_draws_are_not_weighed_as_well():
    with pytest.raises(ValueError, match="take one of the two"):
        AlignmentConfig(time_weight="sampler", timesteps="shifted")
