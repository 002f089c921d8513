"""Weights in 8 bits: close to bfloat16, smaller, with and without a LoRA on top. Needs the extra [quantized]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from ipa_core.config import Quantization
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.quantized import bytes_of
from ipa_core.models.wan_vace.model import WanVACEModel
from ipa_core.models.wan_vace.placement import sizes_of
from tests.tiny_model import FRAMES, HEIGHT, WIDTH, write_tiny_pipeline

pytest.importorskip("torchao", reason="the extra [quantized] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torchao's own, as it is imported.
LAYER = "transformer.blocks.0.attn1.to_v"
KINDS: tuple[Quantization, ...] = "int8", "fp8"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


def load(folder: Path, **about: Any) -> WanVACEModel:
    return WanVACEModel.load(folder, dtype="bfloat16", device="cpu", **about)


def encoded(model: WanVACEModel) -> Conditioning:
    video = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return model.encode_conditioning(video, video[0], "a dancer", None)


@torch.no_grad()
def velocity(model: WanVACEModel) -> torch.Tensor:
    conditioning = encoded(model)
    latents = torch.randn(1, *model.latent_shape(conditioning), generator=torch.Generator().manual_seed(0))
    return model.velocity(latents, torch.tensor([0.7]), conditioning.streams()).float()


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The mean difference as a share of the mean size."""
    return float((one - other).abs().mean() / other.abs().mean())


@pytest.mark.parametrize(("kind", "most"), [("int8", 0.02), ("fp8", 0.06)])
def test_the_velocity_is_near_that_of_all_bits(folder: Path, kind: Quantization, most: float) -> None:
    assert 0 < apart(velocity(load(folder, quantization=kind)), velocity(load(folder))) < most


@pytest.mark.parametrize("kind", KINDS)
def test_a_lora_on_top_keeps_its_bits_and_its_effect(folder: Path, tmp_path: Path, kind: Quantization) -> None:
    generator = torch.Generator().manual_seed(1)
    lora = tmp_path / "lora.safetensors"
    layers = {f"{LAYER}.lora_A.weight": (2, 48), f"{LAYER}.lora_B.weight": (48, 2)}
    tensors = {name: torch.randn(size, generator=generator) for name, size in layers.items()}
    lora.write_bytes(safetensors.torch.save(tensors))
    model = load(folder, lora=lora, quantization=kind)
    layer: Any = model.transformer.get_submodule(LAYER.removeprefix("transformer."))
    assert type(layer.lora_A[layer.active_adapters[0]].weight.data) is torch.Tensor
    assert type(layer.base_layer.weight.data) is not torch.Tensor
    whole = velocity(load(folder, lora=lora))
    assert apart(velocity(model), whole) < 0.06 < 0.2 < apart(velocity(load(folder)), whole)


def test_a_weight_takes_a_byte_and_a_channel_its_scale(folder: Path) -> None:
    model = load(folder, quantization="int8")
    layer: Any = model.transformer.get_submodule("blocks.0.ffn.net.2")
    assert layer.weight.shape == (48, 96)
    assert 48 * 96 < bytes_of(layer.weight) <= 48 * 96 + 48 * 8 < layer.weight.nbytes
    assert sizes_of(model.pipeline)["transformer"] < 0.75 * sizes_of(load(folder).pipeline)["transformer"]


def test_both_experts_are_quantised(tmp_path: Path) -> None:
    model = load(write_tiny_pipeline(tmp_path / "two", boundary_ratio=0.9), quantization="int8")
    sizes = sizes_of(model.pipeline)
    assert sizes["transformer"] == sizes["transformer_2"]
    assert model.how["quantized"].startswith("int8 by torchao 0.")
