"""What a training batch is made of: a clip, its own control, and a reference of the same person."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ipa_core.pretraining.codec import LinearCodec
from ipa_core.pretraining.config import FlowTrainingConfig
from ipa_core.pretraining.encoded import EncodedSet
from ipa_core.pretraining.flow import Batch, TrainingBatches

CLIPS, FRAMES, CHANNELS = 6, 5, 4
PERSON = torch.tensor([0, 1, 0, 2, 1, 2])
CODEC = LinearCodec(torch.eye(192)[:, :CHANNELS], torch.ones(CHANNELS), torch.zeros(CHANNELS))
CONFIG = FlowTrainingConfig(batch_size=200, same_clip_reference=0.5, palm_share=0.5)


def _numbered() -> EncodedSet:
    """Latents that say which clip and frame they are: 10 x clip + frame; controls 100 more for each variant."""
    number = (10 * torch.arange(CLIPS)[:, None] + torch.arange(FRAMES)).half()
    clean = number[:, None, :, None, None].expand(CLIPS, CHANNELS, FRAMES, 2, 2)
    controls = torch.stack([clean + 100, clean + 200], dim=1)
    hands = number[:, :, None, None].expand(CLIPS, FRAMES, 2, 2)
    return EncodedSet(clean, controls, hands, PERSON)


@pytest.fixture(scope="module")
def batches() -> TrainingBatches:
    return TrainingBatches(_numbered(), CODEC, CONFIG, seed=0)


@pytest.fixture(scope="module")
def batch(batches: TrainingBatches) -> Batch:
    return batches(3)


def _numbers(latents: Tensor) -> Tensor:
    """``[B, C, T, h, w]`` -> int64 ``[B, T]``."""
    return latents[:, 0, :, 0, 0].long()


def test_a_clip_runs_forwards_or_backwards(batch: Batch) -> None:
    times = _numbers(batch.clean)[:, 1:] % 10
    forwards = torch.arange(FRAMES)
    assert set(map(tuple, times.tolist())) == {tuple(forwards.tolist()), tuple(forwards.flip(0).tolist())}


def test_the_reference_shows_the_same_person_from_either_clip(batch: Batch) -> None:
    clips = _numbers(batch.clean) // 10
    assert torch.equal(PERSON[clips[:, 0]], PERSON[clips[:, 1]])
    other = (clips[:, 0] != clips[:, 1]).float().mean().item()
    assert other == pytest.approx(0.25, abs=0.12)  # half are not asked to be the same, and half of those are


def test_the_control_is_the_clips_own_at_the_same_times(batch: Batch) -> None:
    control = _numbers(batch.conditioning[:, CHANNELS : 2 * CHANNELS])[:, 1:]
    variant = control // 100
    assert torch.equal(control - 100 * variant, _numbers(batch.clean)[:, 1:])
    assert (variant == 1).float().mean().item() == pytest.approx(0.5, abs=0.12)


def test_hands_weigh_more_where_they_are(batch: Batch) -> None:
    shares = _numbers(batch.clean)[:, 1:].float()
    torch.testing.assert_close(batch.weight[:, 0, 1:, 0, 0], 1 + CONFIG.hand_weight * shares)
    assert torch.unique(batch.weight[:, :, 0]).tolist() == pytest.approx([0.2])


def test_a_step_is_the_same_batch_again_and_no_other_is(batches: TrainingBatches, batch: Batch) -> None:
    assert torch.equal(batches(3).clean, batch.clean)
    assert not torch.equal(batches(4).clean, batch.clean)
