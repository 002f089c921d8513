"""How far an adapter has moved a model, on the real classes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ipa_core.alignment.lora import lora, lora_parameters
from ipa_core.config import AlignmentConfig
from ipa_core.evaluation.drift import velocity_drift
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.tiny_model import FRAMES, HEIGHT, WIDTH, write_tiny_pipeline


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> WanVACEModel:
    return WanVACEModel.load(
        write_tiny_pipeline(tmp_path_factory.mktemp("model")), dtype="float32", device="cpu", text_encoder=False
    )


@pytest.fixture
def adapted(loaded: WanVACEModel) -> Iterator[WanVACEModel]:
    """With a fresh adapter, which changes nothing."""
    with lora(loaded, AlignmentConfig(rank=4, alpha=4, dtype="float32")):
        yield loaded


def moved(model: WanVACEModel, strength: float) -> float:
    """With an adapter of that strength."""
    source = torch.Generator().manual_seed(1)
    for name, parameter in lora_parameters(model.transformer).items():
        values = torch.randn(parameter.shape, generator=source)
        parameter.data = values * (strength if "lora_B" in name else 1.0)
    return drift(model)


def drift(model: WanVACEModel, seed: int = 3) -> float:
    source = torch.Generator().manual_seed(0)
    frames = 1 + (FRAMES - 1) // 4
    conditioning = Conditioning(
        shared={"control": torch.randn(1, 96, 1 + frames, HEIGHT // 8, WIDTH // 8, generator=source)},
        reference_latents=torch.randn(1, 16, 1, HEIGHT // 8, WIDTH // 8, generator=source),
        guided={"prompt_embeds": torch.randn(1, 7, 32, generator=source)},
        unguided=None,
        frames=FRAMES,
        height=HEIGHT,
        width=WIDTH,
    )
    clean = torch.randn(1, 16, frames, HEIGHT // 8, WIDTH // 8, generator=source)
    return velocity_drift(model, conditioning, clean, seed)


def test_a_model_without_adapter_has_not_moved(loaded: WanVACEModel) -> None:
    assert drift(loaded) == 0


def test_a_fresh_adapter_has_not_moved_it(adapted: WanVACEModel) -> None:
    assert drift(adapted) == 0


def test_the_stronger_the_adapter_the_farther(adapted: WanVACEModel) -> None:
    assert 0 < moved(adapted, 0.01) < moved(adapted, 0.02) < moved(adapted, 0.1)


def test_the_adapter_is_on_afterwards(adapted: WanVACEModel) -> None:
    assert moved(adapted, 0.1) == drift(adapted)


def test_the_noise_follows_from_the_seed(adapted: WanVACEModel) -> None:
    moved(adapted, 0.1)
    assert drift(adapted, seed=3) != drift(adapted, seed=4)
