"""The aligned adapter that comes with the project, on the base model that comes with it."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from ipa_core.models import WanVACEModel
from ipa_core.models.adapter import adapter_off

MODELS = Path(__file__).resolve().parents[2] / "models"
ADAPTER = MODELS / "demo-ipa"


def test_it_moves_the_model_a_little() -> None:
    model = WanVACEModel.load(MODELS / "demo", dtype="float32", device="cpu", lora=ADAPTER, text_encoder=False)
    generator = torch.Generator().manual_seed(0)
    noisy, control, prompt = (
        torch.randn(shape, generator=generator) for shape in ((1, 24, 6, 12, 12), (1, 112, 6, 12, 12), (1, 7, 32))
    )
    t = torch.tensor([0.5])
    with torch.no_grad():
        adapted = model.velocity(noisy, t, control, prompt)
        with adapter_off(model.transformer):
            base = model.velocity(noisy, t, control, prompt)
    assert 0.005 < (adapted - base).norm() / base.norm() < 0.5


def test_both_files_hold_the_same_adapter() -> None:
    files = "pytorch_lora_weights.safetensors", "comfyui_lora.safetensors"
    one, other = (load_file(ADAPTER / name) for name in files)
    lengths = [
        sorted(round(float(value.float().norm()), 2) for name, value in weights.items() if "alpha" not in name)
        for weights in (one, other)
    ]
    assert lengths[0] == lengths[1]
