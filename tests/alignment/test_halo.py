import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_core.alignment.halo import halo_error, squared_error


def looped_error(prediction, target, hand_mask, hand_weight, reference_frames):
    """The definition, element by element: mean of W (v - v_phi)^2 with W = 1 + lambda M on video frames."""
    errors = []
    for sample, (predicted, wanted) in enumerate(zip(prediction, target, strict=True)):
        total = 0.0
        channels, frames, height, width = predicted.shape
        for c in range(channels):
            for f in range(frames):
                for y in range(height):
                    for x in range(width):
                        weight = 1.0
                        if f >= reference_frames:
                            weight += hand_weight * hand_mask[sample, f - reference_frames, y, x].item()
                        total += weight * (wanted[c, f, y, x] - predicted[c, f, y, x]).item() ** 2
        errors.append(total / predicted.numel())
    return torch.tensor(errors, dtype=torch.float64)


def random_inputs(batch=2, channels=3, frames=4, height=2, width=3, reference_frames=1, dtype=torch.float64):
    torch.manual_seed(frames)
    prediction = torch.randn(batch, channels, frames, height, width, dtype=dtype)
    target = torch.randn_like(prediction)
    hand_mask = torch.rand(batch, frames - reference_frames, height, width, dtype=dtype)
    return prediction, target, hand_mask


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 2),
    channels=st.integers(1, 3),
    reference_frames=st.integers(0, 2),
    video_frames=st.integers(1, 3),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    hand_weight=st.floats(0, 100),
)
def test_equals_the_loop(batch, channels, reference_frames, video_frames, height, width, hand_weight):
    frames = reference_frames + video_frames
    inputs = random_inputs(batch, channels, frames, height, width, reference_frames)
    error = halo_error(*inputs, hand_weight, reference_frames)
    torch.testing.assert_close(error, looped_error(*inputs, hand_weight, reference_frames), rtol=1e-12, atol=0)


def test_hand_weight_0_is_the_plain_mean_squared_error():
    prediction, target, hand_mask = random_inputs()
    plain = torch.stack([torch.nn.functional.mse_loss(*pair) for pair in zip(prediction, target, strict=True)])
    torch.testing.assert_close(halo_error(prediction, target, hand_mask, 0), plain)


def test_multiplier_of_the_public_code_is_the_hand_weight_plus_1():
    """Its W is 1 + (w - 1) * M: w on hands, 1 elsewhere."""
    prediction, target, hand_mask = random_inputs()
    hand_mask = (hand_mask > 0.5).double()
    multiplier = 10.0
    everywhere = torch.cat([torch.zeros_like(hand_mask[:, :1]), hand_mask], dim=1)[:, None]
    weighted = torch.where(everywhere > 0, multiplier, 1.0) * (target - prediction).square()
    torch.testing.assert_close(
        halo_error(prediction, target, hand_mask, multiplier - 1), weighted.mean(dim=(1, 2, 3, 4))
    )


def test_reference_frames_keep_weight_1():
    prediction, target, hand_mask = random_inputs()
    prediction[:, :, 1:] = target[:, :, 1:]  # wrong only where the reference image lies
    without = halo_error(prediction, target, hand_mask, 0)
    torch.testing.assert_close(halo_error(prediction, target, torch.ones_like(hand_mask), 100), without)


def test_sum_is_the_mean_times_the_elements():
    inputs = random_inputs()
    mean, total = halo_error(*inputs, 10), halo_error(*inputs, 10, reduction="sum")
    torch.testing.assert_close(total, mean * inputs[0][0].numel())


def test_mask_may_have_a_channel_dimension():
    prediction, target, hand_mask = random_inputs()
    with_channel = halo_error(prediction, target, hand_mask[:, None], 10)
    assert torch.equal(with_channel, halo_error(prediction, target, hand_mask, 10))


def test_bfloat16_is_accumulated_in_float32():
    prediction, target, hand_mask = random_inputs(channels=16, height=16, width=16, dtype=torch.float32)
    rounded, exact = prediction.bfloat16(), prediction.bfloat16().double()
    error = halo_error(rounded, target, hand_mask, 10)
    assert error.dtype == torch.float32
    torch.testing.assert_close(error.double(), halo_error(exact, target.double(), hand_mask, 10), rtol=1e-6, atol=0)


def test_one_sum_serves_every_hand_weight():
    inputs = random_inputs()
    sums = squared_error(*inputs)
    for hand_weight in (0, 1, 10, 100):
        torch.testing.assert_close(sums.weighted(hand_weight), halo_error(*inputs, hand_weight))


def test_says_which_shapes_do_not_fit():
    prediction, target, hand_mask = random_inputs()
    with pytest.raises(ValueError, match=r"got \[2, 3, 4, 2, 3\] and \[2, 3, 3, 2, 3\]"):
        halo_error(prediction, target[:, :, 1:], hand_mask, 10)
    with pytest.raises(ValueError, match=r"must be \[2, 3, 2, 3\] or .* got \[2, 4, 2, 3\]"):
        halo_error(prediction, target, torch.ones(2, 4, 2, 3), 10)
    with pytest.raises(ValueError, match="must leave a video frame of the 4, got 4"):
        halo_error(prediction, target, hand_mask, 10, reference_frames=4)
