"""Seeds sampled by us against the same seeds through diffusers' own WanVACEPipeline, float32 on the CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanVACEPipeline
from PIL import Image

from ipa_core.config import CandidatesConfig, ModelConfig
from ipa_core.generation.candidates import animate
from ipa_core.generation.sampler import sample
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.tiny_model import FRAMES, HEIGHT, WIDTH

RunPipeline = Callable[..., Any]

# The scheduler of the Wan 2.1 folders, as far as it differs from other models' UniPC.
WAN_UNIPC = {
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "final_sigmas_type": "zero",
    "flow_shift": 3.0,
    "lower_order_final": True,
    "num_train_timesteps": 1000,
    "predict_x0": True,
    "prediction_type": "flow_prediction",
    "solver_order": 2,
    "solver_type": "bh2",
    "timestep_spacing": "linspace",
    "use_flow_sigmas": True,
}


def config(**changed: Any) -> CandidatesConfig:
    settings = {"steps": 4, "shift": 5.0, "guidance_scale": 3.0, "negative_prompt": "blurred hands"}
    return CandidatesConfig(model=ModelConfig(path="unused", dtype="float32"), **(settings | changed))


@pytest.fixture(scope="session")
def run_pipeline(pipeline_folder: Path, control_video: np.ndarray, reference: np.ndarray) -> RunPipeline:
    pipeline = WanVACEPipeline.from_pretrained(pipeline_folder, local_files_only=True)

    def run(config: CandidatesConfig, seed: int, output_type: str) -> Any:
        if config.scheduler == "euler":
            pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=config.shift)
        else:
            pipeline.scheduler = UniPCMultistepScheduler.from_config(WAN_UNIPC, flow_shift=config.shift)
        # Where every frame is kept the pipeline takes the number of frames for wrong and adds one.
        keeps_every_frame = pipeline.vae_scale_factor_temporal == 1
        return pipeline(
            video=[Image.fromarray(picture) for picture in control_video],
            reference_images=[Image.fromarray(reference)],
            prompt="a dancer",
            negative_prompt=config.negative_prompt,
            height=HEIGHT,
            width=WIDTH,
            num_frames=FRAMES - keeps_every_frame,
            num_inference_steps=config.steps,
            guidance_scale=config.guidance_scale,
            generator=torch.Generator().manual_seed(seed),
            output_type=output_type,
        ).frames

    return run


CONFIGS = {
    "euler": config(scheduler="euler"),
    "unipc": config(scheduler="unipc"),
    "unipc 20 steps": config(scheduler="unipc", steps=20, shift=16.0, guidance_scale=1.0),
    "no guidance": config(scheduler="euler", guidance_scale=1.0),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_one_seed_alone_is_the_pipelines_to_the_bit(
    model: WanVACEModel, conditioning: Conditioning, run_pipeline: RunPipeline, config: CandidatesConfig
) -> None:
    (latents,) = sample(model, conditioning, [11], config)

    assert torch.equal(latents, run_pipeline(config, 11, "latent")[0])


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
def test_a_batch_of_four_is_the_pipelines_up_to_rounding(
    model: WanVACEModel, conditioning: Conditioning, run_pipeline: RunPipeline, scheduler: str
) -> None:
    seeds = [11, 12, 13, 14]

    latents = sample(model, conditioning, seeds, config(scheduler=scheduler))

    expected = torch.cat([run_pipeline(config(scheduler=scheduler), seed, "latent") for seed in seeds])
    assert (latents - expected).abs().max() < 1e-5


def test_an_animated_video_is_the_pipelines_to_the_pixel(
    model: WanVACEModel, run_pipeline: RunPipeline, control_video: np.ndarray, reference: np.ndarray
) -> None:
    video = animate(model, control_video, reference, "a dancer", config(scheduler="euler"), seed=11)

    expected = np.stack([np.asarray(picture) for picture in run_pipeline(config(scheduler="euler"), 11, "pil")[0]])
    assert np.array_equal(video, expected)
