import pytest
import torch

from ipa_core.alignment.flow import flow_target, interpolate, shift_timesteps

CLEAN = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NOISE = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_path_leads_from_clean_to_noise():
    ends = interpolate(CLEAN, NOISE, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.equal(ends[0], CLEAN[0])
    assert torch.equal(ends[1], NOISE[1])


def test_target_is_the_path_s_derivative():
    t, step = torch.tensor([0.2, 0.7], dtype=torch.float64), 0.25
    moved = interpolate(CLEAN, NOISE, t + step) - interpolate(CLEAN, NOISE, t)
    torch.testing.assert_close(moved / step, flow_target(CLEAN, NOISE))


def test_one_euler_step_back_along_the_target_gives_the_clean_latents():
    t = torch.tensor([0.3, 0.9], dtype=torch.float64)
    noisy = interpolate(CLEAN, NOISE, t)
    torch.testing.assert_close(noisy - t.reshape(2, 1, 1, 1, 1) * flow_target(CLEAN, NOISE), CLEAN)


def test_shift_moves_towards_noise_and_keeps_the_ends():
    t = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    assert shift_timesteps(t, 3).tolist() == pytest.approx([0, 0.5, 0.75, 1])
    assert torch.equal(shift_timesteps(t, 1), t)
