"""Wan 2.1 VACE 1.3B at its real size, with random bfloat16 weights and few tokens: nothing is downloaded.

Set IPA_REAL_GEOMETRY=1 to run it. It takes about 8 GiB of memory: 4.1 for the 2.2 billion weights, the rest for the
LoRA, its gradient and its moments; and minutes, because most processors compute slowly in bfloat16.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from blake3 import blake3
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanVACEPipeline, WanVACETransformer3DModel
from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

from ipa_core.alignment.data import TrainingSample
from ipa_core.alignment.trainer import train
from ipa_core.config import AlignmentConfig, CandidatesConfig, ModelConfig
from ipa_core.generation.candidates import encode_clip, generate
from ipa_core.models import LORA_FILE
from ipa_core.models.latents import latents_to_bytes
from ipa_core.models.wan_vace.cost import NETWORKS
from ipa_core.models.wan_vace.lora import COMFYUI_FILE
from ipa_core.models.wan_vace.model import WanVACEModel
from ipa_core.video import encode_video
from tests.alignment.samples import Samples, make_pose
from tests.alignment.test_training import Slot

FRAMES, SIDE = 5, 16
"""3 latent frames with the reference, of one token each."""
CONFIG = CandidatesConfig(model=ModelConfig(path="unused"), steps=1, scheduler="euler", shift=16.0, guidance_scale=1.0)
ALIGNMENT = AlignmentConfig(steps=1, batch_size=1, warmup_steps=0)


def random_transformer() -> WanVACETransformer3DModel:
    """The sizes of Wan-AI/Wan2.1-VACE-1.3B-diffusers. Weights repeat one row of random numbers."""
    with torch.device("meta"):
        transformer = WanVACETransformer3DModel(
            num_attention_heads=12,
            attention_head_dim=128,
            ffn_dim=8960,
            num_layers=30,
            vace_layers=list(range(0, 30, 2)),
            vace_in_channels=96,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        small = WanVACETransformer3DModel(
            num_attention_heads=1, attention_head_dim=128, ffn_dim=8, num_layers=1, vace_layers=[0]
        )
        numbers = (torch.randn(1 << 20) * 0.02).bfloat16()
    transformer = transformer.to(torch.bfloat16).to_empty(device="cpu")
    transformer.rope = small.rope  # Built on no device, its tables would be empty.
    for name, parameter in transformer.named_parameters():
        if "norm" in name:
            parameter.data.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            flat = parameter.data.view(-1)
            flat.copy_(numbers.repeat(-(-flat.numel() // len(numbers)))[: flat.numel()])
    return transformer


@pytest.fixture(scope="module")
def pipeline() -> WanVACEPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
        text = UMT5Config(
            vocab_size=384, d_model=4096, d_kv=16, d_ff=16, num_layers=1, num_decoder_layers=1, num_heads=2
        )
        encoder = UMT5EncoderModel(text).bfloat16()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=16.0)
    return WanVACEPipeline(ByT5Tokenizer(), encoder, vae.eval(), scheduler, random_transformer().eval())


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif("IPA_REAL_GEOMETRY" not in os.environ, reason="takes 8 GiB and minutes: set IPA_REAL_GEOMETRY=1")
def test_it_samples_trains_and_its_lora_loads_in_diffusers(pipeline: WanVACEPipeline, tmp_path: Path) -> None:
    model = WanVACEModel(pipeline)
    weights = sum(parameter.nbytes for parameter in model.transformer.parameters())
    assert weights == pytest.approx(NETWORKS["Wan2.1-VACE-1.3B-diffusers"].weights_bytes, rel=0.01)

    rng = np.random.default_rng(0)
    control = rng.integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
    conditioning = encode_clip(model, control, control[0], "a dancer", CONFIG)
    generated = generate(model, conditioning, [1], CONFIG)
    assert generated.videos.shape == (1, FRAMES, SIDE, SIDE, 3)

    sample = TrainingSample(
        key="one",
        digest=blake3(latents_to_bytes(generated.latents[0])).hexdigest(),
        latents=generated.latents[0],
        conditioning=conditioning,
        pose=make_pose(0, SIDE, SIDE),
        video=encode_video(generated.videos[0], fps=8),
    )
    trained = train(model, Samples([sample]), ALIGNMENT, checkpoints=Slot(), on_step=lambda log: None)
    assert trained.history[0].loss == pytest.approx(np.log(2), abs=1e-3)
    assert trained.history[0].grad_norm > 0

    for name in (LORA_FILE, COMFYUI_FILE):
        (tmp_path / name).write_bytes(trained.files[name])
        pipeline.load_lora_weights(tmp_path, weight_name=name, adapter_name="default")
        adapted = [layer for layer, _ in pipeline.transformer.named_modules() if layer.endswith("lora_A.default")]
        assert len(adapted) == 30 * 6
        assert pipeline.transformer.peft_config["default"].r == 128
        pipeline.unload_lora_weights()
