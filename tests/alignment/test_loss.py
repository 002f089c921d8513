"""The Flow-IPA loss against a plain re-derivation: loops and ``math``, float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_core.alignment.loss import error_weight, flow_ipa_loss

errors = st.lists(st.floats(0, 4), min_size=1, max_size=6)


def derived_loss(model_error, reference_error, t, beta):
    """-log sigmoid(beta D), D = (1 - t)^2 / 2 (e_ref - e_theta), sample by sample."""
    losses = []
    for e_theta, e_ref, at in zip(model_error, reference_error, t, strict=True):
        gap = (1 - at) ** 2 / 2 * (e_ref - e_theta)
        losses.append(math.log1p(math.exp(-beta * gap)))
    return sum(losses) / len(losses)


@settings(max_examples=50, deadline=None)
@given(st.data(), errors, st.floats(0.1, 20))
def test_equals_the_derivation(data, model_error, beta):
    size = len(model_error)
    reference_error = data.draw(st.lists(st.floats(0, 4), min_size=size, max_size=size))
    t = data.draw(st.lists(st.floats(0, 1), min_size=size, max_size=size))
    result = flow_ipa_loss(*(torch.tensor(x, dtype=torch.float64) for x in (model_error, reference_error, t)), beta)
    assert result.loss.item() == pytest.approx(derived_loss(model_error, reference_error, t, beta), rel=1e-12)


def test_known_values():
    """beta 600, t 1/2, e_ref - e_theta = 0.02: x = 300 * 0.25 * 0.02 = 1.5."""
    t = torch.tensor([0.5], dtype=torch.float64)
    result = flow_ipa_loss(torch.full_like(t, 0.28), torch.full_like(t, 0.3), t, beta=600)
    assert result.gap.item() == pytest.approx(0.02)
    assert result.logits.item() == pytest.approx(1.5)
    assert result.loss.item() == pytest.approx(0.20141327798275246)


def test_is_ln_2_where_model_and_reference_agree():
    error = torch.tensor([0.1, 0.9, 2.0], dtype=torch.float64)
    result = flow_ipa_loss(error, error.clone(), torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64), beta=600)
    assert result.loss.item() == pytest.approx(math.log(2), rel=1e-15)


def test_gradient_is_that_of_the_error_times_the_weight():
    """grad L = w grad e_theta, w = beta/2 (1 - t)^2 sigmoid(-x), here with e_theta a function of some parameters."""
    torch.manual_seed(0)
    parameters = torch.randn(5, dtype=torch.float64, requires_grad=True)
    features = torch.randn(3, 5, dtype=torch.float64)
    reference_error, t, beta = torch.rand(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64), 40.0

    def model_error():
        return (features @ parameters).square()

    result = flow_ipa_loss(model_error(), reference_error, t, beta)
    [of_loss] = torch.autograd.grad(result.loss, parameters)
    weight = error_weight(result.logits.detach(), beta / 2 * (1 - t).square())
    [of_errors] = torch.autograd.grad((weight * model_error()).mean(), parameters)
    torch.testing.assert_close(of_loss, of_errors, rtol=1e-12, atol=0)


def test_reference_gets_no_gradient():
    reference_error = torch.tensor([0.3], requires_grad=True)
    model_error = torch.tensor([0.2], requires_grad=True)
    flow_ipa_loss(model_error, reference_error, torch.tensor([0.5]), beta=600).loss.backward()
    assert reference_error.grad is None
    assert model_error.grad is not None


def test_pure_noise_teaches_nothing():
    model_error = torch.tensor([0.2], requires_grad=True)
    flow_ipa_loss(model_error, torch.tensor([0.9]), torch.tensor([1.0]), beta=600).loss.backward()
    assert model_error.grad.item() == 0


@pytest.mark.parametrize("gap", [-5.0, 5.0])
def test_large_logits_stay_finite(gap):
    model_error = torch.tensor([10.0], requires_grad=True)
    result = flow_ipa_loss(model_error, torch.tensor([10.0 + gap]), torch.tensor([0.0]), beta=6000)
    result.loss.backward()
    assert torch.isfinite(result.loss)
    assert torch.isfinite(model_error.grad).all()
