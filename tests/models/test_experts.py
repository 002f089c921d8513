"""Wan 2.2 VACE-Fun: two experts in one model, against diffusers' own pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanVACEPipeline
from PIL import Image
from safetensors.torch import load

from ipa_core.alignment.batch import collate
from ipa_core.alignment.data import prepare
from ipa_core.alignment.trainer import train
from ipa_core.config import AlignmentConfig, CandidatesConfig, ConfigError, ModelConfig
from ipa_core.generation.sampler import sample
from ipa_core.models import LORA_FILE
from ipa_core.models.adapter import adapter_off
from ipa_core.models.wan_vace.lora_reader import read_lora
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.alignment.samples import make_samples
from tests.alignment.test_training import Killed, Slot
from tests.tiny_model import FRAMES, HEIGHT, WIDTH, write_tiny_pipeline

BOUNDARY = 0.875
CONFIG = CandidatesConfig(
    model=ModelConfig(path="unused", dtype="float32"),
    steps=4,
    scheduler="euler",
    shift=5.0,
    guidance_scale=2.0,
    negative_prompt="blurred",
)
ALIGNMENT = AlignmentConfig(
    rank=2, alpha=4, beta=100, dtype="float32", steps=3, batch_size=2, warmup_steps=0, learning_rate=1e-2
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("experts"), boundary_ratio=BOUNDARY)


def loaded(folder: Path, lora: bytes | None = None) -> WanVACEModel:
    return WanVACEModel.load(folder, dtype="float32", device="cpu", lora=lora)


@pytest.fixture(scope="module")
def model(folder: Path) -> WanVACEModel:
    return loaded(folder)


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_a_sample_is_the_pipelines_to_the_bit(folder: Path, model: WanVACEModel) -> None:
    video, reference = pictures(FRAMES, HEIGHT, WIDTH), pictures(HEIGHT, WIDTH, seed=1)
    pipeline = WanVACEPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=CONFIG.shift)
    used = []
    for number, expert in enumerate((pipeline.transformer, pipeline.transformer_2)):
        expert.register_forward_pre_hook(lambda *_, number=number: used.append(number))
    expected = pipeline(
        video=[Image.fromarray(picture) for picture in video],
        reference_images=[Image.fromarray(reference)],
        prompt="a dancer",
        negative_prompt=CONFIG.negative_prompt,
        height=HEIGHT,
        width=WIDTH,
        num_frames=FRAMES,
        num_inference_steps=CONFIG.steps,
        guidance_scale=CONFIG.guidance_scale,
        generator=torch.Generator().manual_seed(11),
        output_type="latent",
    ).frames

    conditioning = model.encode_conditioning(video, reference, "a dancer", CONFIG.negative_prompt)
    latents = sample(model, conditioning, [11], CONFIG)

    assert set(used) == {0, 1}
    assert torch.equal(latents[0], expected[0])


def inputs(count: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    latents, control, prompt = (
        torch.randn(count, *shape, generator=generator) for shape in ((16, 3, 8, 8), (96, 3, 8, 8), (7, 32))
    )
    return latents, {"control": control, "prompt_embeds": prompt}


def velocity(model: WanVACEModel, t: list[float]) -> torch.Tensor:
    latents, streams = inputs(len(t))
    with torch.no_grad():
        return model.velocity(latents, torch.tensor(t), streams)


def test_samples_of_one_batch_go_each_to_the_expert_of_their_noise(model: WanVACEModel) -> None:
    high, low = velocity(model, [0.95, 0.95, 0.95]), velocity(model, [0.3, 0.3, 0.3])
    mixed = velocity(model, [0.3, 0.95, 0.3])

    torch.testing.assert_close(mixed, torch.stack([low[0], high[1], low[2]]))


@pytest.mark.parametrize(
    ("experts", "low", "high"), [("low", 0.0, BOUNDARY), ("high", BOUNDARY, 1.0), ("both", 0.0, 1.0)]
)
@pytest.mark.parametrize("timesteps", ["uniform", "shifted"])
def test_an_expert_draws_t_from_its_own_range(
    model: WanVACEModel, experts: Any, low: float, high: float, timesteps: Any
) -> None:
    config = ALIGNMENT.model_copy(update={"experts": experts, "timesteps": timesteps, "timestep_shift": 3.0})
    [example] = [prepare(sample, model, config) for sample in make_samples(1)]
    drawn = collate([example] * 400, range(400), config, model.device, model.t_range(config)).t

    assert low <= drawn.min() < low + 0.15 * (high - low)
    assert high - 0.15 * (high - low) < drawn.max() <= high


def trained(model: WanVACEModel, experts: str, slot: Slot | None = None, on_step: Any = lambda log: None) -> Any:
    config = ALIGNMENT.model_copy(update={"experts": experts, "checkpoint_every": 1})
    return train(model, make_samples(3), config, checkpoints=slot or Slot(), on_step=on_step)


@pytest.mark.parametrize(("experts", "names"), [("low", {"low"}), ("high", {"high"}), ("both", {"low", "high"})])
def test_each_adapted_expert_has_its_files(model: WanVACEModel, experts: str, names: set[str]) -> None:
    files = trained(model, experts).files

    assert set(files) == {
        LORA_FILE,
        *(f"pytorch_lora_weights_{name}_noise.safetensors" for name in names),
        *(f"comfyui_lora_{name}_noise.safetensors" for name in names),
    }
    assert {name.partition(".")[0] for name in load(files[LORA_FILE])} == {
        {"low": "transformer_2", "high": "transformer"}[name] for name in names
    }


def test_diffusers_loads_each_experts_files_as_we_load_both(folder: Path, model: WanVACEModel, tmp_path: Path) -> None:
    files = trained(model, "both").files
    ours = loaded(folder, files[LORA_FILE])
    for kind in ("pytorch_lora_weights", "comfyui_lora"):
        pipeline = WanVACEPipeline.from_pretrained(folder, local_files_only=True)
        for expert in ("high", "low"):
            name = f"{kind}_{expert}_noise.safetensors"
            (tmp_path / name).write_bytes(files[name])
            second = {"load_into_transformer_2": True} if expert == "low" else {}
            pipeline.load_lora_weights(tmp_path, weight_name=name, **second)
        theirs = WanVACEModel(pipeline)
        for t in (0.95, 0.3):
            torch.testing.assert_close(velocity(ours, [t]), velocity(theirs, [t]))
            assert not torch.allclose(velocity(ours, [t]), velocity(model, [t]))


def test_a_loaded_lora_can_be_switched_off(folder: Path, model: WanVACEModel) -> None:
    ours = loaded(folder, trained(model, "both").weights)
    with adapter_off(ours.transformer):
        assert torch.equal(velocity(ours, [0.3]), velocity(model, [0.3]))


def test_a_broken_off_training_of_both_ends_with_the_same_bytes(model: WanVACEModel) -> None:
    def stop(log: Any) -> None:
        if log.step == 1:
            raise Killed

    slot = Slot()
    with pytest.raises(Killed):
        trained(model, "both", slot, stop)

    assert trained(model, "both", slot).weights == trained(model, "both").weights


def test_a_lora_that_names_no_expert_is_refused(model: WanVACEModel) -> None:
    files = trained(model, "low").files
    with pytest.raises(ConfigError, match="says not to which of the two experts it belongs"):
        read_lora(files["comfyui_lora_low_noise.safetensors"], model.transformer)


@pytest.mark.parametrize("expert", ["low", "high"])
def test_a_file_for_one_expert_in_diffusers_is_never_taken_for_the_first(model: WanVACEModel, expert: str) -> None:
    files = trained(model, expert).files
    with pytest.raises(ConfigError, match=r"names that all begin with transformer .*; take pytorch_lora_weights\."):
        read_lora(files[f"pytorch_lora_weights_{expert}_noise.safetensors"], model.transformer)


def test_a_lora_of_the_first_expert_alone_is_taken_also_with_a_weight(folder: Path, model: WanVACEModel) -> None:
    own = trained(model, "high").files[LORA_FILE]
    half = WanVACEModel.combined_lora(folder, [(own, 0.5)])

    assert read_lora(own, model.transformer) == own
    assert read_lora(half, model.transformer) == half


def test_training_steps_with_checkpointing_are_those_without(model: WanVACEModel) -> None:
    config = ALIGNMENT.model_copy(update={"experts": "both"})
    with_it = config.model_copy(update={"gradient_checkpointing": True})
    one, other = (
        train(model, make_samples(3), each, checkpoints=Slot(), on_step=lambda log: None) for each in (config, with_it)
    )
    assert [log.loss for log in one.history] == pytest.approx([log.loss for log in other.history], rel=1e-5)
