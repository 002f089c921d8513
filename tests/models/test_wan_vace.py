"""WanVACEModel against the pipeline it takes apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanVACEPipeline
from PIL import Image

from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.tiny_model import FRAMES, HEIGHT, WIDTH

PROMPT = "a  dancer &amp; her shadow"
NEGATIVE = "blurred hands"


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def what_the_pipeline_feeds(folder: Path, video: np.ndarray, reference: np.ndarray) -> list[dict[str, torch.Tensor]]:
    """Arguments of the transformer's calls (with the prompt, then the negative one) in one step of the pipeline."""
    pipeline = WanVACEPipeline.from_pretrained(folder, local_files_only=True)
    calls: list[dict[str, Any]] = []
    pipeline.transformer.register_forward_pre_hook(lambda _, __, given: calls.append(given), with_kwargs=True)
    pipeline(
        video=[Image.fromarray(picture) for picture in video],
        reference_images=[Image.fromarray(reference)],
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        height=HEIGHT,
        width=WIDTH,
        num_frames=FRAMES,
        num_inference_steps=1,
        output_type="latent",
    )
    return calls


@pytest.mark.parametrize("reference_size", [(HEIGHT, WIDTH), (90, 40)], ids=["same size", "tall"])
def test_conditioning_is_what_the_pipeline_feeds_its_transformer(
    pipeline_folder: Path, model: WanVACEModel, reference_size: tuple[int, int]
) -> None:
    video, reference = pictures(FRAMES, HEIGHT, WIDTH), pictures(*reference_size, seed=1)
    with_prompt, with_negative = what_the_pipeline_feeds(pipeline_folder, video, reference)

    conditioning = model.encode_conditioning(video, reference, PROMPT, NEGATIVE)

    for guided, fed in ((True, with_prompt), (False, with_negative)):
        streams = conditioning.streams(guided)
        assert torch.equal(streams["control"], fed["control_hidden_states"])
        assert torch.equal(streams["prompt_embeds"], fed["encoder_hidden_states"])


@pytest.fixture(scope="session")
def conditioning(model: WanVACEModel) -> Conditioning:
    return model.encode_conditioning(pictures(FRAMES, HEIGHT, WIDTH), pictures(HEIGHT, WIDTH, seed=1), PROMPT, None)


def test_no_negative_prompt_no_unguided_streams(conditioning: Conditioning) -> None:
    assert conditioning.unguided is None


def test_reference_latents_are_the_encoded_reference(model: WanVACEModel, conditioning: Conditioning) -> None:
    alone = model.encode_video(pictures(HEIGHT, WIDTH, seed=1)[None])

    assert torch.equal(conditioning.reference_latents, alone)


def test_encoded_video_has_the_shape_of_the_latents_without_the_reference(
    model: WanVACEModel, conditioning: Conditioning
) -> None:
    channels, frames, height, width = model.latent_shape(conditioning)

    assert model.encode_video(pictures(FRAMES, HEIGHT, WIDTH)).shape == (1, channels, frames - 1, height, width)


def test_encoded_video_is_normalised_by_the_vae_config(model: WanVACEModel) -> None:
    video = pictures(FRAMES, HEIGHT, WIDTH)
    vae = model.pipeline.vae
    pixels = torch.from_numpy(video).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    with torch.no_grad():
        expected = (vae.encode(pixels).latent_dist.mode() - mean) / std

    torch.testing.assert_close(model.encode_video(video), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(FRAMES, HEIGHT, 60), (FRAMES, 56, WIDTH), (FRAMES + 1, HEIGHT, WIDTH)])
def test_a_video_that_does_not_fit_is_refused(model: WanVACEModel, shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=f"got {shape[0]} frames of {shape[2]} x {shape[1]}"):
        model.encode_conditioning(pictures(*shape), pictures(HEIGHT, WIDTH), PROMPT, None)


def some_latents(model: WanVACEModel, conditioning: Conditioning) -> torch.Tensor:
    return torch.randn(1, *model.latent_shape(conditioning), generator=torch.Generator().manual_seed(3))


def velocity(model: WanVACEModel, conditioning: Conditioning, latents: torch.Tensor) -> torch.Tensor:
    return model.velocity(latents, torch.tensor([0.6]), conditioning.streams())


def test_velocity_lets_gradients_through(model: WanVACEModel, conditioning: Conditioning) -> None:
    latents = some_latents(model, conditioning).requires_grad_()

    velocity(model, conditioning, latents).square().mean().backward()

    assert latents.grad is not None and latents.grad.abs().max() > 0


def test_a_loaded_model_asks_for_no_gradients(model: WanVACEModel) -> None:
    assert not any(parameter.requires_grad for parameter in model.transformer.parameters())


def test_decode_drops_the_reference(model: WanVACEModel, conditioning: Conditioning) -> None:
    latents = some_latents(model, conditioning)
    other_reference = latents.clone()
    other_reference[:, :, :1] = 0

    assert np.array_equal(model.decode(latents), model.decode(other_reference))


def test_decode_gives_videos_of_the_clips_size(model: WanVACEModel, conditioning: Conditioning) -> None:
    videos = model.decode(some_latents(model, conditioning).expand(2, -1, -1, -1, -1))

    assert (videos.shape, videos.dtype) == ((2, FRAMES, HEIGHT, WIDTH, 3), np.uint8)


def test_bfloat16_leaves_the_vae_in_float32(wan_folder: Path) -> None:
    model = WanVACEModel.load(wan_folder, dtype="bfloat16", device="cpu")

    assert (model.dtype, model.pipeline.text_encoder.dtype, model.pipeline.vae.dtype) == (
        torch.bfloat16,
        torch.bfloat16,
        torch.float32,
    )


def test_conditioning_has_the_models_dtype(wan_folder: Path) -> None:
    model = WanVACEModel.load(wan_folder, dtype="bfloat16", device="cpu")

    conditioning = model.encode_conditioning(pictures(5, HEIGHT, WIDTH), pictures(HEIGHT, WIDTH), PROMPT, None)

    assert {stream.dtype for stream in conditioning.streams().values()} == {torch.bfloat16}
    assert conditioning.reference_latents.dtype == torch.float32


def test_without_text_encoder_the_velocity_is_the_same(
    pipeline_folder: Path, model: WanVACEModel, conditioning: Conditioning
) -> None:
    light = WanVACEModel.load(pipeline_folder, dtype="float32", device="cpu", text_encoder=False)
    latents = some_latents(model, conditioning)

    assert light.pipeline.text_encoder is None
    assert torch.equal(velocity(light, conditioning, latents), velocity(model, conditioning, latents))
