"""The methods against known values, and what they do to winners and losers."""

import math
from dataclasses import replace

import pytest
import torch

from ipa_core.alignment import flow_ipa_loss
from ipa_core.alignment.batch import collate
from ipa_core.alignment.data import prepare
from ipa_core.alignment.methods import METHODS, Errors, awm, flow_dpo, ipa, kto, nft
from ipa_core.alignment.trainer import DRIFT_STEPS
from ipa_core.alignment.visits import Label, advantages, epochs_of_run, visited_together, visits_of_step
from ipa_core.config import AlignmentConfig
from tests.alignment.samples import Samples, make_sample
from tests.alignment.test_training import run

LABELS = [Label("a", True, 1.0), Label("b", False, 0.0), Label("a", False, 0.2), Label("b", True, 0.5)]


def errors(model, reference, advantage, weight=2.0, moved=None):
    double = lambda values: torch.tensor(values, dtype=torch.float64)  # noqa: E731
    return Errors(
        model=double(model).requires_grad_(),
        reference=double(reference),
        moved=None if moved is None else double(moved),
        weight=torch.full((len(model),), weight, dtype=torch.float64),
        advantage=double(advantage),
    )


def pull(method, found):
    """The gradient of e_theta: above 0 where the error is lowered, so that the sample becomes likelier."""
    [gradient] = torch.autograd.grad(method(found).sum(), found.model)
    return gradient.tolist()


def test_ipa_is_the_flow_ipa_loss():
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    found = errors([0.3, 0.5], [0.4, 0.4], [0, 0])
    found = Errors(found.model, found.reference, None, 50 * (1 - t).square(), found.advantage)
    assert ipa(found).mean().item() == flow_ipa_loss(found.model, found.reference, t, beta=100).loss.item()


def test_dpo_compares_the_gain_of_a_winner_with_its_losers():
    """x = 2 * .1 and 2 * -.2, so the loss is log(1 + exp(-.6))."""
    assert flow_dpo(errors([0.3, 0.6], [0.4, 0.4], [0, 0])).tolist() == pytest.approx([math.log1p(math.exp(-0.6))])


def test_unpaired_weighs_by_the_distance_from_the_mean():
    found = pull(kto, errors([0.4] * 3, [0.4] * 3, [0.5, 0.0, -0.25]))
    assert found == pytest.approx([0.5, 0.0, -0.25])


def test_a_loser_that_has_become_unlikely_teaches_no_further():
    """x = -.4: the ratio is .67, below .8."""
    assert pull(awm, errors([0.6, 0.4], [0.4, 0.4], [-1.0, -1.0])) == pytest.approx([0.0, -2.0])


def test_nft_with_full_reward_is_fine_tuning_and_without_pushes_away():
    """At v = v_old, where nothing has moved."""
    found = errors([0.4, 0.4, 0.4], [0.4] * 3, [1.0, 0.0, -1.0], weight=0.5, moved=[0.0] * 3)
    assert nft(found).tolist() == pytest.approx([0.0] * 3)
    assert pull(nft, found) == pytest.approx([1.0, 0.0, -1.0])


def test_advantages_are_over_the_mean_of_the_clip():
    assert advantages(LABELS) == pytest.approx([0.4, -0.25, -0.4, 0.25])


def test_pairs_go_side_by_side_through_the_epochs():
    config = AlignmentConfig(method="dpo", steps=3, batch_size=2)
    digests = ["w", "x", "y", "z"]
    together = visited_together(config, LABELS, 4)
    assert together == [(0, 2), (3, 1)]
    steps = [
        [(visit.index, visit.epoch) for visit in visits_of_step(config, digests, together, step)] for step in (0, 1, 2)
    ]
    assert {tuple(index for index, _ in step) for step in steps[:2]} == {(0, 2), (3, 1)}
    assert [{epoch for _, epoch in step} for step in steps] == [{0}, {0}, {1}]
    seen = [1 + max(e for step in steps for i, e in step if i == index) for index in range(4)]
    assert epochs_of_run(config, digests, LABELS) == seen


def test_own_noise_is_the_noise_that_the_candidate_came_from(model):
    """As the sampler draws it; t stays that of the draw."""
    sample = replace(make_sample(0), seed=77)
    fresh, own = (AlignmentConfig(noise=noise) for noise in ("fresh", "own"))
    drawn, kept = (collate([prepare(sample, model, one)], [3], one, model.device) for one in (fresh, own))
    start = torch.randn(kept.clean.shape[1:], generator=torch.Generator().manual_seed(77))
    assert torch.equal(kept.noise[0], start) and not torch.equal(drawn.noise, kept.noise)
    assert torch.equal(kept.t, drawn.t)


def test_a_clips_candidates_share_their_draws(model):
    config = AlignmentConfig(method="dpo")
    pair = [replace(make_sample(number), group="a" * 64) for number in (0, 1)]
    batch = collate([prepare(sample, model, config) for sample in pair], [0, 0], config, model.device)
    assert torch.equal(batch.noise[0], batch.noise[1]) and batch.t[0] == batch.t[1]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "ipa"])
def test_winners_gain_over_losers(model, method):
    samples = Samples([make_sample(0), make_sample(1)])
    log = run(model, samples, method=method, steps=12, batch_size=2, beta=20).history[-1]
    first = run(model, samples, method=method, steps=1, batch_size=2, beta=20).history[0]
    assert log.loss < first.loss


def test_nft_equals_its_two_errors():
    """One number: v = 1, v_old = .6, v_theta = .7, so v- = .5; r = .75."""
    found = errors([0.3**2], [0.4**2], [0.5], weight=0.5, moved=[0.1**2])
    assert nft(found).item() == pytest.approx(0.75 * 0.3**2 + 0.25 * 0.5**2 - 0.4**2)


def test_the_anchor_holds_the_model_back(model):
    samples = Samples([make_sample(0), make_sample(1)])
    free, held = (run(model, samples, steps=20, batch_size=2, anchor=weight).history[-1] for weight in (1e-6, 1e4))
    assert held.drift < 0.7 * free.drift


def test_the_training_stops_at_its_bound_and_is_not_continued(model):
    samples = Samples([make_sample(0), make_sample(1)])
    history = run(model, samples, steps=40, batch_size=2, max_drift=0.001).history
    assert len(history) == DRIFT_STEPS
