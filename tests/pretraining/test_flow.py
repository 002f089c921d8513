"""What the small model is trained on is what the pipeline feeds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanVACEPipeline
from PIL import Image

from ipa_core.people.performers import PROMPT
from ipa_core.pretraining.codec import PATCH, LinearCodec, build_autoencoder, to_video
from ipa_core.pretraining.config import CodecConfig, FlowModelConfig
from ipa_core.pretraining.flow import FoldedPadding, embed_prompts, vace_conditioning
from ipa_core.pretraining.pipeline import assemble, build_text_encoder, build_transformer


def untrained_pipeline(folder: Path, *, seed: int = 0) -> Path:
    """Save a WanVACEPipeline with random weights: the trained one's geometry in small, 2 layers, 8 latent channels. It
    fits tests at 32 x 32 or 64 x 64 (multiples of 8), 5 or 17 frames. Returns ``folder``; 0.6 MB."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(3 * PATCH**2, 3 * PATCH**2, generator=generator)).Q[:, :8]
    codec = LinearCodec(basis.contiguous(), torch.ones(8), torch.zeros(8))
    autoencoder = build_autoencoder(codec, CodecConfig(channels=8, encoder_dim=24, decoder_dim=24))
    model = FlowModelConfig(heads=2, head_dim=24, layers=2, vace_layers=(0,), ffn_dim=96, text_dim=16)
    assemble(autoencoder, build_transformer(model, 8, seed), build_text_encoder(model, seed)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> WanVACEPipeline:
    folder = untrained_pipeline(tmp_path_factory.mktemp("pipeline"), seed=3)
    return WanVACEPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def codec(pipeline: WanVACEPipeline) -> LinearCodec:
    """The linear code that the untrained pipeline's weights hold, read back from them."""
    channels = pipeline.vae.config.z_dim
    scaled = pipeline.vae.encoder.conv_in.weight[:channels, :, 2, 1, 1].T.detach()
    return LinearCodec(scaled, torch.ones(channels), torch.tensor(pipeline.vae.config.latents_mean))


def test_conditioning_is_the_pipelines(pipeline: WanVACEPipeline, codec: LinearCodec) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    reference = rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    pictures = [Image.fromarray(frame) for frame in frames]
    video, mask, references = pipeline.preprocess_conditions(
        pictures, None, Image.fromarray(reference[0]), 1, 32, 32, 5, torch.float32, torch.device("cpu")
    )
    with torch.no_grad():
        latents = pipeline.prepare_video_latents(video, mask, references, None, torch.device("cpu"))
    expected = torch.cat([latents, pipeline.prepare_masks(mask, references)], dim=1)

    ours = vace_conditioning(codec.encode(to_video(frames[None])), codec.encode(to_video(reference[None])), codec)

    torch.testing.assert_close(ours, expected, atol=2e-2, rtol=0)


def test_folded_padding_equals_512_tokens(pipeline: WanVACEPipeline) -> None:
    attention = pipeline.transformer.blocks[0].attn2
    prompts = embed_prompts(pipeline.tokenizer, pipeline.text_encoder)
    hidden = torch.randn(1, 7, attention.to_q.in_features, generator=torch.Generator().manual_seed(0))
    embed = pipeline.transformer.condition_embedder.text_embedder
    with torch.no_grad():
        full, _ = pipeline.encode_prompt(PROMPT, None, False, max_sequence_length=512)
        expected = attention(hidden, embed(full), None, None)
        folded = FoldedPadding()
        folded.bias = prompts.bias[None, None, :1]
        ours = folded(attention, hidden, embed(prompts.embeddings[:1]))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_noise_passes_through_the_fresh_transformer(pipeline: WanVACEPipeline) -> None:
    """Embedding and head are transposes of each other: unpatchifying undoes patchifying."""
    transformer = pipeline.transformer
    noise = torch.randn(1, 8, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    tokens = transformer.patch_embedding(noise).flatten(2).transpose(1, 2)
    columns = transformer.proj_out(tokens).reshape(1, 2, 4, 4, 3, 1, 1, 8).permute(0, 7, 1, 4, 2, 5, 3, 6)
    restored = columns.flatten(6, 7).flatten(4, 5).flatten(2, 3)
    correlation = torch.corrcoef(torch.stack([restored.flatten(), noise.flatten()]))[0, 1]
    assert correlation > 0.999


def test_pipeline_runs_offline_on_a_prompt(pipeline: WanVACEPipeline, tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (32, 32), (10 * index, 0, 0)) for index in range(5)]
    video = pipeline(
        prompt=PROMPT,
        video=pictures,
        reference_images=pictures[0],
        height=32,
        width=32,
        num_frames=4,  # diffusers adds one where the codec does not compress time
        num_inference_steps=2,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
    ).frames
    assert video.shape == (1, 5, 32, 32, 3)
