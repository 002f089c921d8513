from dataclasses import replace

import numpy as np
import pytest
import torch
from webdataset import TarWriter

from ipa_core.alignment.batch import collate
from ipa_core.alignment.data import ShardSamples, prepare
from ipa_core.config import AlignmentConfig
from ipa_core.video import decode_video
from tests.alignment.samples import make_sample, make_samples, shard_files, write_shards

CONFIG = AlignmentConfig(dtype="float32")
CPU = torch.device("cpu")


def test_shards_give_back_what_was_written_in_any_order(tmp_path):
    written = make_samples(5)
    read = ShardSamples(write_shards(tmp_path, written, per_shard=2))
    assert list(read.digests) == list(written.digests)
    for index in (3, 0, 4, 1, 2, 3):
        ours, theirs = read[index], written[index]
        assert (ours.key, ours.digest) == (theirs.key, theirs.digest)
        assert torch.equal(ours.latents, theirs.latents)
        assert ours.conditioning.to_bytes() == theirs.conditioning.to_bytes()
        assert ours.pose.to_bytes() == theirs.pose.to_bytes()
        assert ours.video == theirs.video


def test_a_sample_that_lacks_a_file_is_named(tmp_path):
    files = shard_files(make_sample(0))
    del files["pose.safetensors"], files["mp4"]
    with TarWriter(str(tmp_path / "000000.tar"), encoder=False) as writer:
        writer.write(files)
    with pytest.raises(ValueError, match=r"sample 0{16}-000-0{16} of 000000.tar lacks pose.safetensors, mp4"):
        ShardSamples([tmp_path / "000000.tar"])


def test_clean_latents_are_the_encoded_reference_and_the_sampled_video(model):
    sample = make_sample(0)
    example = prepare(sample, model, CONFIG)
    assert torch.equal(example.clean[:, :1], sample.conditioning.reference_latents[0])
    assert torch.equal(example.clean[:, 1:], sample.latents[:, 1:])
    assert example.reference_frames == 1


def test_reencoded_latents_are_those_of_the_decoded_video(model):
    sample = make_sample(0)
    example = prepare(sample, model, CONFIG.model_copy(update={"latents": "reencoded"}))
    assert torch.equal(example.clean[:, 1:], model.encode_video(decode_video(sample.video))[0])


def test_the_driving_clip_takes_the_candidates_place(model):
    config = CONFIG.model_copy(update={"latents": "driving"})
    sample, other = make_sample(0), make_sample(1)
    example = prepare(replace(sample, driving=other.video), model, config)
    assert torch.equal(example.clean[:, 1:], model.encode_video(decode_video(other.video))[0])
    with pytest.raises(ValueError, match=r"lacks driving\.mp4"):
        prepare(sample, model, config)


def test_hand_mask_lies_on_the_latent_grid_where_the_hands_are(model):
    sample = make_sample(0)
    mask = prepare(sample, model, CONFIG).hand_mask
    assert mask.shape == sample.latents[0, 1:].shape
    assert mask.dtype == torch.float32
    hand = sample.pose.keypoints[0, 91:112].mean(axis=0) / 8
    x, y = np.floor(hand).astype(int)
    assert (mask[:, y, x] == 1).all()
    assert 0 < mask.mean() < 0.5


def test_draws_do_not_depend_on_the_batch(model):
    examples = [prepare(sample, model, CONFIG) for sample in make_samples(3)]
    together = collate(examples, [0, 1, 2], CONFIG, CPU)
    for index, example in enumerate(examples):
        alone = collate([example], [index], CONFIG, CPU)
        assert torch.equal(alone.noise[0], together.noise[index])
        assert torch.equal(alone.t[0], together.t[index])


def test_shifted_timesteps_lie_closer_to_noise(model):
    examples = [prepare(make_sample(0), model, CONFIG)]
    uniform = collate(examples, [0], CONFIG, CPU)
    shifted = collate(examples, [0], CONFIG.model_copy(update={"timesteps": "shifted"}), CPU)
    assert shifted.t > uniform.t
    assert torch.equal(shifted.noise, uniform.noise)


def test_samples_of_different_shapes_are_refused_in_one_sentence(model):
    examples = [prepare(make_sample(0), model, CONFIG), prepare(make_sample(1, width=96), model, CONFIG)]
    with pytest.raises(ValueError, match=r"can't share a batch: .* \[16, 4, 8, 8\] .* \[16, 4, 8, 12\]"):
        collate(examples, [0, 0], CONFIG, CPU)
