"""`execution.compile`: the same velocity up to rounding, for sampling alone; a machine without a compiler goes on."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from ipa_core.models import compiled
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.tiny_model import FRAMES, HEIGHT, WIDTH, write_tiny_pipeline

# torch's own compiler still imports what torch calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture
def model(tmp_path: Path) -> WanVACEModel:
    return WanVACEModel.load(write_tiny_pipeline(tmp_path), dtype="float32", device="cpu")


def velocity(model: WanVACEModel) -> torch.Tensor:
    video = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    given = model.encode_conditioning(video, video[0], "a dancer", None)
    latents = torch.randn(1, *model.latent_shape(given), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return model.velocity(latents, torch.tensor([0.5]), given.streams())


def test_without_a_compiler_it_says_so_and_goes_on(model: WanVACEModel, caplog: pytest.LogCaptureFixture) -> None:
    from torch._inductor import config

    expected = velocity(model)
    with config.patch({"cpp.cxx": ("no-such-compiler",)}), caplog.at_level(logging.WARNING):
        model.compile_blocks()
    assert "compiled" not in model.how
    (line,) = [one.getMessage() for one in caplog.records if "execution.compile" in one.getMessage()]
    assert line.startswith("execution.compile: the blocks are not compiled, and sampling is slower: ")
    assert "\n" not in line
    with model.sampling():
        assert torch.equal(velocity(model), expected)


def test_blocks_are_compiled_for_sampling_alone(model: WanVACEModel, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []

    def as_it_is(function: object) -> object:
        def counted(*args: object, **named: object) -> object:
            called.append(1)
            return function(*args, **named)  # type: ignore[operator]

        return counted

    monkeypatch.setattr(compiled.torch, "compile", as_it_is)
    model.compile_blocks()
    called.clear()
    velocity(model)
    assert not called
    with model.sampling():
        velocity(model)
    assert len(called) == 3  # Two blocks, and one of the control branch.
    assert model.how["compiled"] == "blocks"


@pytest.mark.slow
def test_compiled_blocks_predict_the_same_up_to_rounding(
    model: WanVACEModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiler"))
    expected = velocity(model)
    model.compile_blocks()
    assert model.how["compiled"] == "blocks"
    with model.sampling():
        torch.testing.assert_close(velocity(model), expected, atol=1e-5, rtol=1e-5)
