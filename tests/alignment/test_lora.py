import json

import peft
import pytest
import safetensors.torch
import torch
from blake3 import blake3
from diffusers import WanVACEPipeline
from peft import get_peft_model_state_dict

from ipa_core.alignment.lora import add_lora, lora, lora_files, lora_parameters
from ipa_core.config import AlignmentConfig
from ipa_core.models import LORA_FILE
from ipa_core.models.adapter import adapter_off
from ipa_core.models.wan_vace.lora import COMFYUI_FILE, comfyui_name
from ipa_core.models.wan_vace.model import WanVACEModel

CONFIG = AlignmentConfig(rank=4, alpha=8, dtype="float32")


def predict(model):
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return model.velocity(
            torch.randn(1, 16, 4, 8, 8, generator=source),
            torch.tensor([0.5]),
            {
                "control": torch.randn(1, 96, 4, 8, 8, generator=source),
                "prompt_embeds": torch.randn(1, 7, 32, generator=source),
            },
        )


def give_values(transformer):
    """As if trained: B, which starts at 0, gets values."""
    source = torch.Generator().manual_seed(1)
    for parameter in lora_parameters(transformer).values():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=source)


@pytest.mark.parametrize(
    ("targets", "vace_blocks", "expected"),
    [
        ("self", False, {"blocks.N.attn1"}),
        ("self_cross", False, {"blocks.N.attn1", "blocks.N.attn2"}),
        ("self", True, {"blocks.N.attn1", "vace_blocks.N.attn1"}),
        ("self_cross", True, {"blocks.N.attn1", "blocks.N.attn2", "vace_blocks.N.attn1", "vace_blocks.N.attn2"}),
    ],
)
def test_targets(model, targets, vace_blocks, expected):
    add_lora(model, CONFIG.model_copy(update={"targets": targets, "vace_blocks": vace_blocks}))
    layers = {name.split(".lora_")[0] for name in lora_parameters(model.transformer)}
    assert {layer.split(".")[-1] for layer in layers} == {"to_q", "to_k", "to_v"}
    assert {".".join([layer.split(".")[0], "N", layer.split(".")[2]]) for layer in layers} == expected


def test_only_the_lora_is_trainable(model):
    model.transformer.requires_grad_(True)
    add_lora(model, CONFIG)
    trainable = {name for name, parameter in model.transformer.named_parameters() if parameter.requires_grad}
    assert trainable == set(lora_parameters(model.transformer))


def test_a_fresh_lora_changes_nothing(model):
    before = predict(model)
    add_lora(model, CONFIG)
    assert torch.equal(predict(model), before)


def test_start_depends_on_the_seed_alone(tiny_folder):
    def start(seed, targets="self_cross", dtype="float32"):
        model = WanVACEModel.load(tiny_folder, dtype=dtype, device="cpu", text_encoder=False)
        torch.rand(1)  # the global generator has moved on
        add_lora(model, CONFIG.model_copy(update={"seed": seed, "targets": targets}))
        return {name: parameter.detach().clone() for name, parameter in lora_parameters(model.transformer).items()}

    first = start(0)
    for same in (start(0), start(0, targets="self"), start(0, dtype="bfloat16")):
        assert all(torch.equal(first[name], tensor) for name, tensor in same.items())
    name = "blocks.0.attn1.to_q.lora_A.default.weight"
    assert not torch.equal(first[name], start(1)[name])


def test_a_second_lora_is_refused(model):
    add_lora(model, CONFIG)
    with pytest.raises(ValueError, match="carries a LoRA already"):
        add_lora(model, CONFIG)


def test_lora_of_a_bfloat16_model_is_float32(tiny_folder):
    model = WanVACEModel.load(tiny_folder, dtype="bfloat16", device="cpu", text_encoder=False)
    add_lora(model, CONFIG)
    assert {parameter.dtype for parameter in lora_parameters(model.transformer).values()} == {torch.float32}


def test_adapter_off_is_the_base_model_and_is_undone(model):
    base = predict(model)
    add_lora(model, CONFIG)
    give_values(model.transformer)
    adapted = predict(model)
    with pytest.raises(KeyError), adapter_off(model.transformer):
        assert torch.equal(predict(model), base)
        raise KeyError
    assert torch.equal(predict(model), adapted)
    assert all(parameter.requires_grad for parameter in lora_parameters(model.transformer).values())


def test_nothing_remains_of_the_lora_behind_its_block(model):
    before = {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}
    for _ in range(2):
        with lora(model, CONFIG):
            give_values(model.transformer)
    after = model.transformer.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())


def test_file_is_what_the_pipeline_saves(model, tmp_path):
    add_lora(model, CONFIG)
    give_values(model.transformer)
    WanVACEPipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=get_peft_model_state_dict(model.transformer),
        transformer_lora_adapter_metadata=model.transformer.peft_config["default"].to_dict(),
    )
    saved = (tmp_path / "pytorch_lora_weights.safetensors").read_bytes()
    ours = lora_files(model)[LORA_FILE]
    assert read_safetensors(ours) == read_safetensors(saved)
    assert ours == lora_files(model)[LORA_FILE]


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        pytest.param(
            LORA_FILE,
            "883837075507faf9",
            marks=pytest.mark.skipif(peft.__version__ != "0.21.2", reason="the file holds the version of peft"),
        ),
        (COMFYUI_FILE, "565ce25265e616cf"),
    ],
)
def test_the_bytes_of_both_files_are_fixed(model, name, digest):
    """They are inputs of the evaluation's actions."""
    add_lora(model, CONFIG)
    give_values(model.transformer)
    assert blake3(lora_files(model)[name]).hexdigest()[:16] == digest


def read_safetensors(data: bytes):
    """Header (in no order) and tensor bytes."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


@pytest.mark.parametrize("vace_blocks", [False, True])
def test_loads_into_the_pipeline_with_its_alpha(model, tiny_folder, vace_blocks):
    add_lora(model, CONFIG.model_copy(update={"vace_blocks": vace_blocks}))
    give_values(model.transformer)
    loaded = WanVACEModel.load(
        tiny_folder, dtype="float32", device="cpu", text_encoder=False, lora=lora_files(model)[LORA_FILE]
    )
    assert loaded.transformer.blocks[0].attn1.to_q.scaling == {"default_0": CONFIG.alpha / CONFIG.rank}
    torch.testing.assert_close(predict(loaded), predict(model), rtol=0, atol=0)


def test_comfyui_names(model):
    add_lora(model, CONFIG.model_copy(update={"vace_blocks": True}))
    tensors = safetensors.torch.load(lora_files(model)[COMFYUI_FILE])
    assert tensors["diffusion_model.blocks.1.self_attn.q.lora_A.weight"].shape == (4, 48)
    assert tensors["diffusion_model.blocks.1.cross_attn.v.lora_B.weight"].shape == (48, 4)
    assert tensors["diffusion_model.vace_blocks.0.self_attn.k.alpha"] == 8
    assert len(tensors) == 3 * len(lora_parameters(model.transformer)) / 2


def test_comfyui_names_attention_projections_only():
    with pytest.raises(ValueError, match=r"'proj_out.lora_A.weight' is no LoRA weight"):
        comfyui_name("proj_out.lora_A.weight")


def test_comfyui_file_loads_through_diffusers_converter(model, tiny_folder, tmp_path):
    add_lora(model, CONFIG)
    give_values(model.transformer)
    (tmp_path / "comfyui.safetensors").write_bytes(lora_files(model)[COMFYUI_FILE])
    loaded = WanVACEModel.load(
        tiny_folder, dtype="float32", device="cpu", text_encoder=False, lora=tmp_path / "comfyui.safetensors"
    )
    torch.testing.assert_close(predict(loaded), predict(model))
