"""Where a model's parts lie, and which kernel samples: no result changes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ipa_core.config import CandidatesConfig, ModelConfig
from ipa_core.generation.sampler import sample
from ipa_core.models.wan_vace.experts import Experts
from ipa_core.models.wan_vace.model import WanVACEModel
from ipa_core.models.wan_vace.placement import Placement, attention, fast_attention, placement
from tests.tiny_model import FRAMES, HEIGHT, WIDTH, write_tiny_pipeline

GIB = 2**30
ENCODERS = ("text_encoder",)
WAN_14B = {"text_encoder": round(10.6 * GIB), "vae": GIB // 2, "transformer": round(32.3 * GIB)}
WAN_1_3B = WAN_14B | {"transformer": 4 * GIB}
FUN = WAN_14B | {"transformer_2": round(32.3 * GIB)}
CONFIG = CandidatesConfig(
    model=ModelConfig(path="unused", dtype="float32"), steps=4, scheduler="euler", shift=5.0, guidance_scale=1.0
)


@pytest.mark.parametrize(
    ("sizes", "gib", "waiting"),
    [
        (WAN_14B, 80, ""),
        (WAN_14B, 45, "encoders"),
        (WAN_14B, 24, "encoders, blocks"),
        (WAN_1_3B, 80, ""),
        (WAN_1_3B, 12, "encoders"),
        (FUN, 141, ""),
        (FUN, 80, "encoders, experts"),
        (FUN, 24, "encoders, experts, blocks"),
    ],
)
def test_a_smaller_card_holds_less_at_once(sizes: dict[str, int], gib: int, waiting: str) -> None:
    found = placement(sizes, ENCODERS, gib * GIB)
    assert str(found) == (f"{waiting} wait in main memory" if waiting else "all on the device")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("experts"), boundary_ratio=0.875)


@pytest.fixture
def model(folder: Path) -> WanVACEModel:
    return WanVACEModel.load(folder, dtype="float32", device="cpu")


def made(model: WanVACEModel) -> torch.Tensor:
    rng = np.random.default_rng(0)
    video, reference = (
        rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((FRAMES, HEIGHT, WIDTH, 3), (9, 9, 3))
    )
    return sample(model, model.encode_conditioning(video, reference, "a dancer", None), [1], CONFIG)


@pytest.mark.parametrize("experts", [True, False])
def test_with_blocks_that_wait_the_latents_are_the_same(folder: Path, model: WanVACEModel, experts: bool) -> None:
    small = WanVACEModel.load(folder, dtype="float32", device="cpu")
    small._place(1.0 if experts else 1e9)
    assert small._placed.blocks_wait == experts
    assert torch.equal(made(small), made(model))


def test_the_idle_expert_and_the_encoders_leave_the_device(
    folder: Path, model: WanVACEModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device that is the CPU too, so only the moves are seen."""
    moves: list[tuple[str, str]] = []
    names = {id(part): name for name, part in model.pipeline.components.items() if isinstance(part, torch.nn.Module)}
    to = torch.nn.Module.to

    def seen(self: torch.nn.Module, *given: Any, **named: Any) -> torch.nn.Module:
        if id(self) in names:
            moves.append((names[id(self)], str(given[0])))
        return to(self, *given, **named)

    model._placed = Placement(encoders_wait=True, experts_wait=True)
    assert isinstance(model.transformer, Experts)
    model.transformer.alone_on = torch.device("cpu", 0)  # Unequal to the plain CPU, on which the weights are.
    monkeypatch.setattr(torch.nn.Module, "to", seen)
    found = made(model)

    assert [name for name, _ in moves[:2]] == ["text_encoder", "text_encoder"]
    assert ("transformer", "cpu") in moves and ("transformer_2", "cpu:0") in moves
    torch.testing.assert_close(found, made(WanVACEModel.load(folder, dtype="float32", device="cpu")))


def backends(model: WanVACEModel) -> set[Any]:
    return {
        part.processor._attention_backend
        for transformer in model._transformers
        for part in transformer.modules()
        if hasattr(part, "processor")
    }


def test_a_fast_kernel_is_used_for_sampling_alone(model: WanVACEModel) -> None:
    native = made(model)
    model._attention = "_native_math"
    used: list[set[Any]] = []
    model.pipeline.transformer.register_forward_pre_hook(lambda *_: used.append(backends(model)))
    found = made(model)

    torch.testing.assert_close(found, native, rtol=1e-4, atol=1e-4)
    assert {backend.value for found in used for backend in found} == {"_native_math"}
    assert {getattr(backend, "value", None) for backend in backends(model)} <= {"native", None}


def test_a_kernel_that_is_not_installed_is_no_choice(model: WanVACEModel) -> None:
    with pytest.raises(RuntimeError, match="Flash Attention"), attention(model._transformers, "flash"):
        pass
    assert fast_attention(model._transformers, torch.device("cpu"), torch.bfloat16) == "native"


def test_a_codec_that_does_not_fit_decodes_in_tiles(
    model: WanVACEModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    latents = torch.randn(1, 16, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = model.decode(latents)
    vae = model.pipeline.vae
    decode = vae.decode

    def small(*given: Any, **named: Any) -> Any:
        if not vae.use_tiling:
            raise torch.OutOfMemoryError
        return decode(*given, **named)

    monkeypatch.setattr(vae, "decode", small)
    with caplog.at_level(logging.WARNING):
        tiled = model.decode(latents)

    assert model.how["decoding"] == "tiles"
    assert "decodes in overlapping tiles" in caplog.text
    assert np.array_equal(tiled, whole)  # Smaller than one tile.
