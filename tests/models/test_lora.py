"""A LoRA saved by diffusers, put on a WanVACEModel."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import WanVACEPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from ipa_core.config import ConfigError
from ipa_core.models import LORA_FILE
from ipa_core.models.wan_vace.model import WanVACEModel


def load(folder: Path, lora: Path | bytes | None = None) -> WanVACEModel:
    return WanVACEModel.load(folder, dtype="float32", device="cpu", lora=lora, text_encoder=False)


def output(model: WanVACEModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    latents, control, prompt = (
        torch.randn(shape, generator=generator) for shape in ((1, 16, 3, 8, 8), (1, 96, 3, 8, 8), (1, 7, 32))
    )
    with torch.no_grad():
        return model.velocity(latents, torch.tensor([0.5]), {"control": control, "prompt_embeds": prompt})


@pytest.fixture(scope="module")
def adapted(wan_folder: Path) -> WanVACEModel:
    """With a trained LoRA, as far as random weights can be; alpha is not the rank."""
    model = load(wan_folder)
    model.transformer.add_adapter(LoraConfig(r=4, lora_alpha=12, target_modules=["to_q", "to_k", "to_v"]))
    generator = torch.Generator().manual_seed(6)
    for name, parameter in model.transformer.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def lora_folder(adapted: WanVACEModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    WanVACEPipeline.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(adapted.transformer),
        transformer_lora_adapter_metadata=adapted.transformer.peft_config["default"].to_dict(),
    )
    return folder


@pytest.mark.parametrize(
    "as_given",
    [lambda folder: folder, lambda folder: folder / LORA_FILE, lambda folder: (folder / LORA_FILE).read_bytes()],
    ids=["folder", "file", "bytes"],
)
def test_a_loaded_lora_gives_what_the_trained_one_gave(
    wan_folder: Path, adapted: WanVACEModel, lora_folder: Path, as_given: Callable[[Path], Path | bytes]
) -> None:
    loaded = load(wan_folder, as_given(lora_folder))

    assert torch.equal(output(loaded), output(adapted))


def test_a_file_without_a_lora_for_the_model_is_refused(wan_folder: Path) -> None:
    other = safetensors.torch.save({"text_encoder.layer.lora_A.weight": torch.zeros(1, 1)})

    with pytest.raises(ConfigError, match="has 1 names that this model does not have, such as text_encoder"):
        load(wan_folder, other)


def test_a_lora_changes_the_output(wan_folder: Path, adapted: WanVACEModel) -> None:
    assert not np.allclose(output(load(wan_folder)), output(adapted), atol=1e-2)


def test_switched_off_it_is_the_base_model_to_the_bit(wan_folder: Path, lora_folder: Path) -> None:
    loaded = load(wan_folder, lora_folder)
    loaded.transformer.disable_adapters()

    assert torch.equal(output(loaded), output(load(wan_folder)))
