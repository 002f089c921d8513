"""The linear codec, and that AutoencoderKLWan computes it."""

from __future__ import annotations

import pytest
import torch

from ipa_core.people.dataset import RenderedSet
from ipa_core.pretraining.codec import (
    LinearCodec,
    build_autoencoder,
    decode,
    finetune_decoder,
    fit_linear_codec,
    to_video,
)
from ipa_core.pretraining.config import CodecConfig

CONFIG = CodecConfig(channels=8, encoder_dim=24, decoder_dim=24, steps=4, batch_size=2, crop=16)


@pytest.fixture(scope="module")
def codec(rendered_set: RenderedSet) -> LinearCodec:
    return fit_linear_codec(rendered_set, rendered_set.frames[:2], CONFIG)


def test_axes_are_orthonormal_and_latents_centred(codec: LinearCodec, rendered_set: RenderedSet) -> None:
    torch.testing.assert_close(codec.basis.T @ codec.basis, torch.eye(8), atol=1e-4, rtol=0)
    latents = codec.encode(to_video(rendered_set.frames))
    assert latents.mean(dim=(0, 2, 3, 4)).abs().max() < 1e-3
    assert latents.std() == pytest.approx(1, abs=0.05)


def test_decoding_projects_onto_the_axes(codec: LinearCodec, rendered_set: RenderedSet) -> None:
    latents = codec.encode(to_video(rendered_set.frames[:2]))
    torch.testing.assert_close(codec.encode(codec.decode(latents)), latents, atol=1e-3, rtol=0)


def test_autoencoder_encodes_linearly(codec: LinearCodec, rendered_set: RenderedSet) -> None:
    video = to_video(rendered_set.frames[:1])
    autoencoder = build_autoencoder(codec, CONFIG)
    with torch.no_grad():
        ours = autoencoder.encode(video).latent_dist.mode() - codec.mean.view(1, -1, 1, 1, 1)
        restored = decode(autoencoder, ours)
    torch.testing.assert_close(ours, codec.encode(video), atol=2e-2, rtol=0)
    # The decoder's constant is smaller: near the linear code, not equal to it, until it is fine-tuned.
    assert (restored - codec.decode(ours).clamp(-1, 1)).abs().mean() < 0.05


def test_finetuning_touches_the_decoder_only(codec: LinearCodec, rendered_set: RenderedSet) -> None:
    autoencoder = build_autoencoder(codec, CONFIG)
    before = {name: weight.clone() for name, weight in autoencoder.state_dict().items()}
    finetune_decoder(autoencoder, codec, rendered_set, CONFIG, seed=0)
    changed = {name for name, weight in autoencoder.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith("decoder.") for name in changed)


def test_too_narrow_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 \\* channels \\+ 1 = 49, got 48"):
        CodecConfig(channels=24, encoder_dim=48)
