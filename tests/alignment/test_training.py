import math

import pytest
import safetensors.torch
import torch

from ipa_core.alignment.batch import collate, velocity_error
from ipa_core.alignment.checkpoint import Checkpoint
from ipa_core.alignment.data import ShardSamples, prepare
from ipa_core.alignment.trainer import learning_rate, train
from ipa_core.config import AlignmentConfig
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.alignment.samples import Samples, make_sample, make_samples, write_shards

CONFIG = AlignmentConfig(
    rank=4,
    alpha=8,
    beta=100,
    dtype="float32",
    steps=6,
    batch_size=4,
    warmup_steps=2,
    learning_rate=3e-3,
    checkpoint_every=3,
)


class Slot:
    """A checkpoint slot in memory."""

    def __init__(self):
        self.data = None
        self.steps = []

    def load(self):
        return self.data

    def save(self, step, data):
        self.data = data
        self.steps.append(step)


class Killed(BaseException):
    pass


def run(model, samples, slot=None, on_step=lambda log: None, **changes):
    config = CONFIG.model_copy(update=changes)
    return train(model, samples, config, checkpoints=slot or Slot(), on_step=on_step)


def gradient(model, samples, **changes):
    """Of the first step, as AdamW's first moment holds it (clipped and times 0.1)."""
    slot = Slot()
    run(model, samples, slot, steps=1, **changes)
    states = Checkpoint.from_bytes(slot.data).optimizer
    return torch.cat([states[name]["exp_avg"].flatten() for name in sorted(states)])


def error_on(model, samples):
    examples = [prepare(sample, model, CONFIG) for sample in samples]
    with torch.no_grad():
        return velocity_error(model, collate(examples, [0] * len(examples), CONFIG, model.device), CONFIG)


def without_times(history):
    return [log.model_copy(update={"seconds": 0}) for log in history]


def test_starts_at_ln_2(model):
    first = run(model, make_samples(4), steps=1).history[0]
    assert first.loss == pytest.approx(math.log(2), rel=1e-6)
    assert first.gap == 0
    assert first.model_error == first.reference_error


def test_bfloat16_starts_near_ln_2(tiny_folder):
    model = WanVACEModel.load(tiny_folder, dtype="bfloat16", device="cpu", text_encoder=False)
    first = run(model, make_samples(4), steps=1, dtype="bfloat16").history[0]
    assert first.loss == pytest.approx(math.log(2), abs=1e-3)


@pytest.mark.parametrize("method", ["ipa", "sft"])
def test_training_lowers_the_error_on_its_samples(model, tiny_folder, method):
    samples = make_samples(4)
    before = error_on(model, samples)
    trained = run(model, samples, method=method, steps=20)
    loaded = WanVACEModel.load(tiny_folder, dtype="float32", device="cpu", text_encoder=False, lora=trained.weights)
    assert (error_on(loaded, samples) < before - 0.01).all()


def test_ipa_loss_falls_below_ln_2(model):
    history = run(model, make_samples(4), steps=15).history
    assert sum(log.loss for log in history[-5:]) / 5 < math.log(2) - 0.05


def test_logged_values_belong_together(model):
    """One sample per batch, so that means are values."""
    for log in run(model, make_samples(2), batch_size=1, steps=4).history:
        assert log.gap == pytest.approx(log.reference_error - log.model_error)
        assert log.loss == pytest.approx(math.log1p(math.exp(-log.logit)))
        if log.gap:
            scale = log.logit / log.gap  # beta/2 (1 - t)^2
            assert log.weight == pytest.approx(scale / (1 + math.exp(log.logit)))


def test_sft_has_no_reference(model):
    log = run(model, make_samples(2), method="sft", steps=1).history[0]
    assert log.loss == log.model_error
    assert (log.reference_error, log.gap, log.logit, log.weight) == (None, None, None, None)


def test_same_run_gives_the_same_bytes(model):
    samples = make_samples(3)
    first, second = run(model, samples), run(model, samples)
    assert first.files == second.files


def test_place_in_the_shards_changes_nothing(model):
    samples = make_samples(3)
    assert run(model, samples).weights == run(model, Samples(reversed(samples))).weights


def test_samples_of_shards_train_like_those_in_memory(model, tmp_path):
    samples = make_samples(3)
    shards = ShardSamples(write_shards(tmp_path, samples, per_shard=2))
    assert run(model, shards, steps=2).weights == run(model, samples, steps=2).weights


def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(model):
    samples = make_samples(3)
    straight = run(model, samples)
    slot = Slot()

    def kill_in_the_fifth_step(log):
        if log.step == 4:
            raise Killed

    with pytest.raises(Killed):
        run(model, samples, slot, kill_in_the_fifth_step)
    assert slot.steps == [3]
    taken = []
    resumed = run(model, samples, slot, taken.append)
    assert [log.step for log in taken] == [3, 4, 5]
    assert resumed.weights == straight.weights
    assert without_times(resumed.history) == without_times(straight.history)


def test_finished_run_is_not_trained_again(model):
    slot, taken = Slot(), []
    finished = run(model, make_samples(2), slot)
    again = run(model, make_samples(2), slot, taken.append)
    assert again == finished
    assert taken == []


def test_a_checkpoint_holds_the_adapter_and_its_optimizer_alone(model):
    slot = Slot()
    run(model, make_samples(2), slot, steps=1)
    tensors = safetensors.torch.load(slot.data)
    names = {name.split("/")[1] for name in tensors}
    assert len(names) == 2 * 2 * 3 * 2  # of 2 blocks, self and cross, q k v, A and B
    assert all(".lora_" in name for name in names)
    kinds = ("adapter/{}", "optimizer/{}/exp_avg", "optimizer/{}/exp_avg_sq", "optimizer/{}/step")
    assert set(tensors) == {kind.format(name) for kind in kinds for name in names}


def test_checkpoint_of_another_rank_is_refused(model):
    slot = Slot()
    run(model, make_samples(2), slot, steps=1)
    with pytest.raises(ValueError, match="another rank"):
        run(model, make_samples(2), slot, rank=2)


@pytest.mark.parametrize("method", ["ipa", "sft"])
def test_accumulation_gives_the_gradient_of_the_whole_batch(model, method):
    samples = make_samples(4)
    whole = gradient(model, samples, method=method)
    parts = gradient(model, samples, method=method, accumulation=4)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6 * whole.abs().max().item())


def test_gradient_checkpointing_gives_the_same_gradient(model):
    samples = make_samples(2)
    plain = gradient(model, samples)
    checkpointed = gradient(model, samples, gradient_checkpointing=True)
    torch.testing.assert_close(checkpointed, plain, rtol=1e-4, atol=1e-6 * plain.abs().max().item())
    assert not model.transformer.is_gradient_checkpointing


def test_hand_weight_changes_the_gradient(model):
    samples = make_samples(2)
    assert not torch.allclose(gradient(model, samples, hand_weight=0), gradient(model, samples))


def test_samples_of_two_shapes_can_be_trained_apart(model):
    samples = Samples([make_sample(0), make_sample(1, width=96)])
    with pytest.raises(ValueError, match="can't share a batch"):
        run(model, samples, steps=1, batch_size=2)
    assert len(run(model, samples, steps=1, batch_size=2, accumulation=2).history) == 1


def test_model_is_left_without_an_adapter(model):
    samples = make_samples(2)
    before = error_on(model, samples)
    run(model, samples, steps=2)
    assert torch.equal(error_on(model, samples), before)


def test_no_samples_are_an_error(model):
    with pytest.raises(ValueError, match="no samples"):
        run(model, Samples())


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_step(model):
    samples = make_samples(2)
    samples[0].latents.fill_(float("nan"))
    slot = Slot()
    with pytest.raises(FloatingPointError, match="step 0 is not finite"):
        run(model, samples, slot, batch_size=2)
    assert slot.data is None


def test_learning_rate_rises_and_stays():
    rates = [learning_rate(step, CONFIG) / CONFIG.learning_rate for step in range(4)]
    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert learning_rate(0, CONFIG.model_copy(update={"warmup_steps": 0})) == CONFIG.learning_rate
