"""The aligned adapters that come with the project, on the base model that comes with it."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file

from ipa_core.models import LORA_FILE
from ipa_core.models.adapter import adapter_off
from ipa_core.models.wan_vace.lora import COMFYUI_FILE, lora_files
from ipa_core.models.wan_vace.model import WanVACEModel

MODELS = Path(__file__).resolve().parents[2] / "models"
ADAPTERS = pytest.mark.parametrize(
    "adapter", [MODELS / "demo-ipa", MODELS / "demo-dpo"], ids=lambda folder: folder.name
)


@ADAPTERS
def test_it_moves_the_model_a_little(adapter: Path) -> None:
    model = WanVACEModel.load(MODELS / "demo", dtype="float32", device="cpu", lora=adapter, text_encoder=False)
    generator = torch.Generator().manual_seed(0)
    noisy, control, prompt = (
        torch.randn(shape, generator=generator) for shape in ((1, 24, 6, 12, 12), (1, 112, 6, 12, 12), (1, 7, 32))
    )
    t, streams = torch.tensor([0.5]), {"control": control, "prompt_embeds": prompt}
    with torch.no_grad():
        adapted = model.velocity(noisy, t, streams)
        with adapter_off(model.transformer):
            base = model.velocity(noisy, t, streams)
    assert 0.005 < (adapted - base).norm() / base.norm() < 0.5


@ADAPTERS
def test_both_files_hold_the_same_adapter(adapter: Path) -> None:
    one, other = (load_file(adapter / name) for name in (LORA_FILE, COMFYUI_FILE))
    lengths = [
        sorted(round(float(value.float().norm()), 2) for name, value in weights.items() if "alpha" not in name)
        for weights in (one, other)
    ]
    assert lengths[0] == lengths[1]


@ADAPTERS
def test_written_again_both_files_have_the_same_bytes(adapter: Path) -> None:
    with safe_open(adapter / LORA_FILE, "pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
        state = {name.removeprefix("transformer."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    settings = LoraConfig(**{name.removeprefix("transformer."): value for name, value in metadata.items()})

    for name, data in lora_files(state, settings).items():
        assert data == (adapter / name).read_bytes(), name
