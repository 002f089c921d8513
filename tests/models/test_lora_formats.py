"""LoRA files of other programs: loaded whole, with the same output, or refused."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from ipa_core.config import ConfigError
from ipa_core.models.wan_vace.lora import comfyui_lora, comfyui_name, diffusers_lora
from ipa_core.models.wan_vace.lora_reader import combined_loras
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.models.test_lora import load, output

RANK, ALPHA = 4, 12
ATTENTION = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["to_q", "to_k", "to_v"])
"""Main blocks and control branch."""
State = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def adapted(wan_folder: Path) -> WanVACEModel:
    model = load(wan_folder)
    model.transformer.add_adapter(ATTENTION)
    generator = torch.Generator().manual_seed(6)
    for name, parameter in model.transformer.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def state(adapted: WanVACEModel) -> State:
    """By diffusers' names."""
    return {name: tensor.contiguous() for name, tensor in get_peft_model_state_dict(adapted.transformer).items()}


def written(tensors: State, layers: State | None = None) -> bytes:
    alphas = {f"{name}.alpha": torch.tensor(float(ALPHA)) for name in layers or ()}
    return safetensors.torch.save(dict(tensors) | alphas)


def comfyui(state: State) -> bytes:
    return comfyui_lora(state, ATTENTION)


def kohya(state: State) -> bytes:
    tensors, layers = {}, {}
    for name, tensor in state.items():
        layer, matrix = comfyui_name(name)
        layer = "lora_unet_" + layer.removeprefix("diffusion_model.").replace(".", "_")
        tensors[f"{layer}.{'lora_down' if matrix == 'lora_A' else 'lora_up'}.weight"] = tensor
        layers[layer] = tensor
    return written(tensors, layers)


def diffsynth(state: State) -> bytes:
    """It knows no alpha: the scale is in the weights."""
    tensors = {}
    for name, tensor in state.items():
        layer, matrix = comfyui_name(name)
        scale = ALPHA / RANK if matrix == "lora_B" else 1
        tensors[f"{layer.removeprefix('diffusion_model.')}.{matrix}.default.weight"] = tensor * scale
    return written(tensors)


def peft(state: State) -> bytes:
    tensors = {f"base_model.model.{name}": tensor for name, tensor in state.items()}
    return written(tensors, {re.sub(r"\.lora_[AB]\.weight", "", name): tensor for name, tensor in tensors.items()})


def diffusers(state: State) -> bytes:
    return diffusers_lora(state, ATTENTION)


@pytest.mark.parametrize("program", [comfyui, kohya, diffsynth, peft, diffusers])
def test_a_file_of_each_program_gives_the_same_output(
    wan_folder: Path, adapted: WanVACEModel, state: State, program: Callable[[State], bytes]
) -> None:
    assert torch.allclose(output(load(wan_folder, program(state))), output(adapted), atol=1e-4)


def test_layers_of_several_ranks_and_alphas(wan_folder: Path) -> None:
    """One layer of rank 2 at double strength, one of rank 1 at half of it: as added to the weights by hand."""
    layers = {"blocks.0.attn1.to_q": (2, 4.0), "blocks.1.ffn.net.2": (1, 0.5), "vace_blocks.0.proj_out": (2, 2.0)}
    model, tensors = load(wan_folder), {}
    for name, (rank, alpha) in layers.items():
        weight = model.transformer.get_submodule(name).weight
        down, up = torch.randn(rank, weight.shape[1]), torch.randn(weight.shape[0], rank)
        weight.data += up @ down * alpha / rank
        part = f"diffusion_model.{ORIGINAL[name]}"
        tensors |= {
            f"{part}.lora_down.weight": down,
            f"{part}.lora_up.weight": up,
            f"{part}.alpha": torch.tensor(alpha),
        }
    loaded = load(wan_folder, safetensors.torch.save(tensors))
    assert torch.allclose(output(loaded), output(model), atol=1e-3)


ORIGINAL = {
    "blocks.0.attn1.to_q": "blocks.0.self_attn.q",
    "blocks.1.ffn.net.2": "blocks.1.ffn.2",
    "vace_blocks.0.proj_out": "vace_blocks.0.after_proj",
}


def test_a_file_without_alpha_is_used_at_full_strength_and_says_so(
    wan_folder: Path, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    load(wan_folder, diffsynth(state))
    assert "the LoRA has no alpha; it is used at full strength (alpha = rank)" in caplog.text


def refusal(wan_folder: Path, data: bytes) -> str:
    with pytest.raises(ConfigError) as refused:
        load(wan_folder, data)
    return str(refused.value)


def test_a_pickle_is_refused(wan_folder: Path, tmp_path: Path) -> None:
    torch.save({"blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 48)}, tmp_path / "lora.bin")
    assert "is no whole safetensors file" in refusal(wan_folder, (tmp_path / "lora.bin").read_bytes())


def test_half_a_file_is_refused(wan_folder: Path, state: State) -> None:
    assert "is no whole safetensors file" in refusal(wan_folder, comfyui(state)[:-100])


def test_half_of_a_pair_is_refused(wan_folder: Path, state: State) -> None:
    halves = {name: tensor for name, tensor in state.items() if "lora_A" in name}
    assert "lacks the up (lora_B) half of blocks.0.attn1.to_k" in refusal(wan_folder, diffusers(halves))


def test_a_layer_that_the_model_does_not_have_is_named(wan_folder: Path, state: State) -> None:
    more = {name.replace("blocks.0", "blocks.9"): tensor.clone() for name, tensor in state.items()}
    said = refusal(wan_folder, diffusers({**state, **more}))
    assert "names that this model does not have, such as transformer.blocks.9.attn1.to_k.lora_A.weight" in said


def test_a_change_that_is_no_lora_is_refused(wan_folder: Path, state: State) -> None:
    more = {"diffusion_model.blocks.0.norm3.diff": torch.zeros(48)}
    assert "such as diffusion_model.blocks.0.norm3.diff" in refusal(wan_folder, written({**state, **more}))


def test_another_size_of_model_is_refused(wan_folder: Path, state: State) -> None:
    larger = {name: torch.zeros(96, 4) if "lora_B" in name else tensor for name, tensor in state.items()}
    assert "the layer here is (48, 48): it is of a model of another size" in refusal(wan_folder, diffusers(larger))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_lora_is_refused(wan_folder: Path, state: State, value: float) -> None:
    broken = {name: torch.full_like(tensor, value) if "vace" in name else tensor for name, tensor in state.items()}
    assert "holds NaN or infinity" in refusal(wan_folder, diffusers(broken))


def test_an_empty_file_is_refused(wan_folder: Path) -> None:
    assert refusal(wan_folder, safetensors.torch.save({})) == "the LoRA holds no weights"


@pytest.mark.parametrize("settings", ["{", "[" * 100_000])
def test_damaged_metadata_are_refused(wan_folder: Path, state: State, settings: str) -> None:
    data = safetensors.torch.save(dict(state), metadata={"lora_adapter_metadata": settings})
    assert "is no whole safetensors file" in refusal(wan_folder, data)


LAYER = "diffusion_model.blocks.0.self_attn.q"


@pytest.mark.parametrize(
    "alpha", [torch.tensor(float("nan")), torch.ones(2), torch.ones(0)], ids=["NaN", "two", "none"]
)
def test_an_alpha_that_is_no_number_is_refused(wan_folder: Path, state: State, alpha: Tensor) -> None:
    data = safetensors.torch.save({**safetensors.torch.load(comfyui(state)), f"{LAYER}.alpha": alpha})
    assert "alpha of blocks.0.attn1.to_q is no number" in refusal(wan_folder, data)


def test_a_layer_in_two_kinds_of_names_is_refused(wan_folder: Path, state: State) -> None:
    both = {f"transformer.{name}": tensor * 2 for name, tensor in state.items()} | safetensors.torch.load(
        comfyui(state)
    )
    assert "twice, in two kinds of names, such as transformer.blocks.0." in refusal(wan_folder, written(both))


def test_a_lora_of_rank_zero_is_refused(wan_folder: Path) -> None:
    empty = {f"{LAYER}.lora_A.weight": torch.zeros(0, 48), f"{LAYER}.lora_B.weight": torch.zeros(48, 0)}
    assert "has the shapes (48, 0) and (0, 48)" in refusal(wan_folder, written(empty, {LAYER: torch.zeros(1)}))


@pytest.mark.parametrize("settings", ["[]", "[1]", '"a"', "3"])
def test_metadata_of_another_form_are_refused(wan_folder: Path, state: State, settings: str) -> None:
    tensors = {f"transformer.{name}": tensor for name, tensor in state.items()}
    data = safetensors.torch.save(tensors, metadata={"lora_adapter_metadata": settings})
    assert "metadata are of another form" in refusal(wan_folder, data)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.bfloat16])
def test_a_lora_of_low_precision_is_the_nearest_one(wan_folder: Path, state: State, kind: torch.dtype) -> None:
    low = {name: tensor.to(kind) for name, tensor in state.items()}
    near = {name: tensor.float() for name, tensor in low.items()}
    assert torch.allclose(output(load(wan_folder, comfyui(low))), output(load(wan_folder, comfyui(near))), atol=1e-3)


def test_settings_for_the_end_of_a_name_count(state: State, wan_folder: Path) -> None:
    adapter = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["to_q"], alpha_pattern={"attn1.to_q": 3 * RANK})
    found = combined_loras([(diffusers_lora(state, adapter), 0.5)], load(wan_folder).transformer)
    for layer, scale in (("blocks.0.attn1.to_q", 1.5), ("blocks.0.attn2.to_q", 0.5)):
        added = state[f"{layer}.lora_B.weight"] @ state[f"{layer}.lora_A.weight"]
        torch.testing.assert_close(delta(found, layer), scale * added)


def delta(data: bytes, layer: str) -> Tensor:
    """What a file of diffusers with alpha = rank adds to a layer's weight."""
    tensors = safetensors.torch.load(data)
    down, up = (tensors[f"transformer.{layer}.lora_{matrix}.weight"].float() for matrix in "AB")
    return up @ down


def test_several_loras_add_up_with_their_weights(state: State, wan_folder: Path) -> None:
    transformer = load(wan_folder).transformer
    scaled, other = comfyui(state), {name: tensor * 2 for name, tensor in state.items() if "attn1" in name}
    single = diffusers_lora(other, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["to_q"]))
    found = combined_loras([(scaled, 0.5), (single, -1.0)], transformer)

    layer, alone = "blocks.0.attn1.to_q", "blocks.0.attn2.to_q"
    first, second = (state[f"{name}.lora_B.weight"] @ state[f"{name}.lora_A.weight"] for name in (layer, alone))
    torch.testing.assert_close(delta(found, layer), (0.5 * ALPHA / RANK - 4.0) * first)
    torch.testing.assert_close(delta(found, alone), 0.5 * ALPHA / RANK * second)


def test_a_combined_lora_is_loaded_with_its_ranks(state: State, wan_folder: Path) -> None:
    some = {name: tensor for name, tensor in state.items() if "attn1" in name}
    parts = [(comfyui(state), 1.0), (comfyui(some), 0.5)]
    model = load(wan_folder, combined_loras(parts, load(wan_folder).transformer))
    one_and_half = {
        name: tensor * (1.5 if "attn1" in name and "lora_B" in name else 1.0) for name, tensor in state.items()
    }
    torch.testing.assert_close(output(model), output(load(wan_folder, comfyui(one_and_half))))


def test_one_lora_at_full_weight_is_the_file_itself(state: State, wan_folder: Path) -> None:
    data = diffusers_lora(state, ATTENTION)
    assert combined_loras([(data, 1.0)], load(wan_folder).transformer) == data


def test_the_layers_are_compared_without_reading_the_models_weights(state: State, wan_folder: Path) -> None:
    assert WanVACEModel.combined_lora(wan_folder, [(comfyui(state), 1.0)]) == combined_loras(
        [(comfyui(state), 1.0)], load(wan_folder).transformer
    )
