"""The formulas against torch's own count of the real classes' operations, and against the figures they came with."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import WanVACETransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ipa_core.alignment.lora import lora
from ipa_core.config import AlignmentConfig, RunConfig
from ipa_core.config_file import load_config
from ipa_core.models.cost import gpu_hours
from ipa_core.models.wan_vace import cost
from ipa_core.models.wan_vace.cost import NETWORKS, Network, latent_tokens, network_of
from ipa_core.models.wan_vace.lora import target_modules

CONFIGS = Path(__file__).parent.parent / "configs"
SMALL = Network(layers=12, control_layers=3, dim=96, ffn_dim=256)
FRAMES, SIDE, PROMPT = 4, 16, 32
TOKENS = FRAMES * (SIDE // 2) ** 2


@pytest.fixture(scope="module")
def transformer() -> WanVACETransformer3DModel:
    return WanVACETransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=SMALL.dim // 2,
        ffn_dim=SMALL.ffn_dim,
        num_layers=SMALL.layers,
        vace_layers=[0, 4, 8],
        text_dim=16,
        freq_dim=16,
        rope_max_seq_len=32,
    )


def counted(transformer: WanVACETransformer3DModel, backward: bool) -> int:
    """Operations that torch counts in one pass over one sample."""
    generator = torch.Generator().manual_seed(0)
    # The fused attention of the CPU is not counted; the plain one has the same products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        velocity = transformer(
            hidden_states=torch.randn(1, 16, FRAMES, SIDE, SIDE, generator=generator),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, PROMPT, 16, generator=generator),
            control_hidden_states=torch.randn(1, 96, FRAMES, SIDE, SIDE, generator=generator),
            return_dict=False,
        )[0]
        if backward:
            velocity.square().mean().backward()
    return counter.get_total_flops()


def test_a_forward_pass_is_what_torch_counts(transformer: WanVACETransformer3DModel) -> None:
    main, control = SMALL.passes(TOKENS, PROMPT)
    with torch.no_grad():
        assert main.forward + control.forward == pytest.approx(counted(transformer, backward=False), rel=0.03)


@pytest.mark.parametrize("control_branch", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_step_is_what_torch_counts(
    transformer: WanVACETransformer3DModel, control_branch: bool, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "ATTENTION_BACKWARD", 2.0)  # the plain one keeps its scores
    config = AlignmentConfig(rank=1, alpha=1, vace_blocks=control_branch, gradient_checkpointing=checkpointing)
    if checkpointing:
        transformer.enable_gradient_checkpointing()
    model = SimpleNamespace(transformer=transformer, lora_targets=target_modules)
    with lora(model, config):  # type: ignore[arg-type]
        expected = counted(transformer, backward=True)
    transformer.disable_gradient_checkpointing()
    assert cost._sample_flops(*SMALL.passes(TOKENS, PROMPT), config) == pytest.approx(expected, rel=0.06)


def wan(size: str, **alignment: object) -> tuple[Network, RunConfig]:
    config = load_config(CONFIGS / f"wan-vace-{size}.yaml", [f"alignment.{k}={v}" for k, v in alignment.items()])
    network = network_of(config.candidates.model.path)
    assert network is not None
    return network, config


def candidate_flops(size: str) -> float:
    network, config = wan(size)
    return network.candidate_flops(config)


def test_one_clip_of_the_14b_is_220_petaflop() -> None:
    assert latent_tokens(wan("14b")[1].clips) == 22 * 30 * 52
    assert candidate_flops("14b") == pytest.approx(220e15, rel=0.02)


def test_the_papers_6000_candidates_take_about_1046_gpu_hours() -> None:
    assert gpu_hours(6000 * candidate_flops("14b")) == pytest.approx(1046, rel=0.02)


def test_a_training_step_of_the_14b_is_8_35_petaflop_with_the_control_branch() -> None:
    network, config = wan("14b", vace_blocks=True)
    assert network.training_flops(config) / (1000 * 8) == pytest.approx(8.35e15, rel=0.02)


def test_the_papers_training_takes_about_66_gpu_hours() -> None:
    """References of all draws and steps together."""
    for changes, tolerance in ({"vace_blocks": True}, 0.02), ({}, 0.1):
        network, config = wan("14b", **changes)
        draws = config.alignment.steps * config.alignment.batch_size
        flops = draws * network.forward_flops(config) + network.training_flops(config)
        assert gpu_hours(flops) == pytest.approx(66, rel=tolerance)


def test_the_1_3b_costs_a_fifth() -> None:
    assert candidate_flops("1.3b") / candidate_flops("14b") == pytest.approx(0.2, abs=0.02)


def test_guidance_doubles_the_passes() -> None:
    network, config = wan("14b")
    unguided = config.model_copy(update={"candidates": config.candidates.model_copy(update={"guidance_scale": 1.0})})
    assert network.candidate_flops(unguided) == network.candidate_flops(config) / 2


def test_guidance_until_a_noise_level_doubles_the_passes_above_it() -> None:
    network, config = wan("14b")
    until = config.model_copy(update={"candidates": config.candidates.model_copy(update={"guidance_until": 0.9})})
    assert network.candidate_flops(until) / network.candidate_flops(config) == pytest.approx((50 + 32) / 100)


def test_a_model_is_known_by_its_hub_id_or_by_a_folder_of_that_name() -> None:
    _, config = wan("1.3b")
    model = config.candidates.model.model_copy(update={"path": "/models/Wan2.1-VACE-14B-diffusers/"})
    local = config.model_copy(update={"candidates": config.candidates.model_copy(update={"model": model})})
    assert network_of(local.candidates.model.path) == NETWORKS["Wan2.1-VACE-14B-diffusers"]
    assert network_of(load_config(CONFIGS / "demo.yaml").candidates.model.path) is None


def test_memory_is_what_was_counted_at_81_frames_of_480_by_832() -> None:
    network, config = wan("14b", gradient_checkpointing=True, targets="self")
    # 32.3 GiB of weights, 6.6 of activations for each seed, 24.6 for a training step, half a GiB for the codec.
    assert network.weights_bytes / 2**30 == pytest.approx(32.3, rel=0.01)
    assert network.generation_bytes(config, 1) / 2**30 == pytest.approx(39.4, rel=0.01)
    assert network.generation_bytes(config, 4) / 2**30 == pytest.approx(59.1, rel=0.01)
    assert network.training_bytes(config) / 2**30 == pytest.approx(32.3 + 2.3 + 24.6 + 0.5, rel=0.01)


def test_two_experts_have_twice_the_weights_and_the_same_work() -> None:
    one, two = (NETWORKS[name] for name in ("Wan2.1-VACE-14B-diffusers", "Wan2.2-VACE-Fun-14B-diffusers"))
    _, config = wan("14b")
    assert two.weights_bytes == 2 * one.weights_bytes
    assert two.candidate_flops(config) == one.candidate_flops(config)
    assert two.generation_bytes(config, 1) == one.generation_bytes(config, 1)  # The idle one waits in main memory.
