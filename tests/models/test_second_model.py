"""A second animation model is one object and one line in the list; nothing else knows its names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from blake3 import blake3
from diffusers import ConfigMixin, FlowMatchEulerDiscreteScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from peft import LoraConfig, set_peft_model_state_dict
from torch import Tensor

from ipa_core.alignment.data import TrainingSample
from ipa_core.alignment.trainer import train
from ipa_core.config import AlignmentConfig, CandidatesConfig, ModelConfig, RunConfig
from ipa_core.evaluation.drift import velocity_drift
from ipa_core.generation.candidates import encode_clip, generate
from ipa_core.models import LORA_FILE, ModelKind, kind_of, kinds, known_network
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.latents import latents_to_bytes
from ipa_core.video import encode_video
from tests.alignment.samples import Samples, make_pose
from tests.alignment.test_training import Slot
from tests.tiny_model import FRAMES, HEIGHT, WIDTH

CHANNELS = 3
SHADOW_FILE = "toy_shadow.safetensors"
CONFIG = CandidatesConfig(
    model=ModelConfig(path="toy", dtype="float32"), steps=2, scheduler="euler", shift=1.0, guidance_scale=2.0
)
ALIGNMENT = AlignmentConfig(
    rank=2, alpha=2, beta=10, dtype="float32", steps=3, batch_size=2, warmup_steps=0, learning_rate=1e-2
)


class ToyBlock(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Linear(CHANNELS, CHANNELS)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.mix(hidden)


class ToyTransformer(ModelMixin, ConfigMixin, PeftAdapterMixin):
    @register_to_config
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([ToyBlock(), ToyBlock()])

    def forward(self, latents: Tensor, t: Tensor, colours: Tensor) -> Tensor:
        hidden = latents.movedim(1, -1) + (t[:, None] + colours)[:, None, None, None]
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden.movedim(-1, 1)


class ToyModel:
    """Streams: ``face [B, 3]``, the same in both passes, and ``mood [B, 1]``. 8 x 8 pixels a cell, every frame kept."""

    blocks = ("ToyBlock",)

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.transformer = ToyTransformer()
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def encode_conditioning(
        self, control_video: np.ndarray, reference: np.ndarray, prompt: str, negative_prompt: str | None
    ) -> Conditioning:
        moods = [
            None if text is None else {"mood": torch.full((1, 1), len(text) / 9)} for text in (prompt, negative_prompt)
        ]
        face = torch.from_numpy(reference).float().mean((0, 1))[None] / 255
        frames, height, width = control_video.shape[:3]
        return Conditioning(
            {"face": face}, moods[0] or {}, moods[1], self.encode_video(reference[None]), frames, height, width
        )

    def encode_video(self, video: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(video).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
        return torch.nn.functional.avg_pool3d(pixels, (1, 8, 8))

    def latent_shape(self, conditioning: Conditioning) -> tuple[int, int, int, int]:
        return CHANNELS, 1 + conditioning.frames, conditioning.height // 8, conditioning.width // 8

    def sampling(self) -> nullcontext[None]:
        return nullcontext()

    def velocity(self, latents: Tensor, t: Tensor, streams: Mapping[str, Tensor]) -> Tensor:
        return self.transformer(latents, t.float(), streams["face"] + streams["mood"])

    def decode(self, latents: Tensor) -> np.ndarray:
        large = torch.nn.functional.interpolate(latents[:, :, 1:], scale_factor=(1, 8, 8))
        return ((large.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).permute(0, 2, 3, 4, 1).numpy()

    def scheduler(self, config: CandidatesConfig) -> Any:
        return FlowMatchEulerDiscreteScheduler(shift=config.shift)

    def lora_targets(self, config: AlignmentConfig) -> str:
        return r"layers\.\d+\.mix"

    def t_range(self, config: AlignmentConfig) -> tuple[float, float]:
        return 0.0, 1.0

    def lora_files(self, state: Mapping[str, Tensor], adapter: LoraConfig) -> dict[str, bytes]:
        about = {"adapter": json.dumps([adapter.r, adapter.lora_alpha])}
        shadow = {name: tensor for name, tensor in state.items() if "lora_B" in name}
        return {LORA_FILE: safetensors.torch.save(dict(state), about), SHADOW_FILE: safetensors.torch.save(shadow)}


class ToyKind:
    pipeline = "ToyPipeline"
    downloads: Mapping[str, str] = {"toys/Toy-1": "about 1 KB"}

    def check_index(self, index: Mapping[str, Any], folder: Path) -> None: ...

    def load(self, folder: Path, *, lora: Path | bytes | None = None, **_: Any) -> ToyModel:
        model = ToyModel()
        if isinstance(lora, bytes):
            model.transformer.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=model.lora_targets(ALIGNMENT)))
            set_peft_model_state_dict(model.transformer, safetensors.torch.load(lora))
        return model

    def network(self, path: str) -> ToyNetwork | None:
        return ToyNetwork() if path.endswith("Toy-1") else None

    def card(self, config: AlignmentConfig, base_model: str, samples: int) -> str:
        return f"A toy LoRA for {base_model}"


class ToyNetwork:
    def candidate_flops(self, config: RunConfig) -> float:
        return 1.0

    forward_flops = training_flops = candidate_flops


TOY = ToyKind()


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelKind:
    """As the list's new line and the folder's class name give it."""
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, TOY))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "ToyPipeline"}))
    return kind_of(tmp_path)


def load(kind: ModelKind, lora: bytes | None = None) -> Any:
    return kind.load(Path("toy"), dtype="float32", device="cpu", lora=lora, text_encoder=False)


def encoded(model: Any) -> Conditioning:
    control = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return encode_clip(model, control, control[0], "a dancer", CONFIG)


def samples(model: Any, conditioning: Conditioning) -> Samples:
    made = generate(model, conditioning, [1, 2], CONFIG)
    stored = Conditioning.from_bytes(conditioning.to_bytes())
    return Samples(
        TrainingSample(
            key=str(seed),
            digest=blake3(latents_to_bytes(latents)).hexdigest(),
            latents=latents,
            conditioning=stored,
            pose=make_pose(seed, HEIGHT, WIDTH),
            video=encode_video(video, fps=8),
        )
        for seed, latents, video in zip(made.seeds, made.latents, made.videos, strict=True)
    )


def trained(model: Any) -> Any:
    found = samples(model, encoded(model))
    return train(model, found, ALIGNMENT, checkpoints=Slot(), on_step=lambda log: None)


def test_it_is_chosen_by_the_class_of_its_folder(kind: ModelKind) -> None:
    assert kind is TOY
    assert kinds.download_size("toys/Toy-1") == "about 1 KB"


def test_its_network_is_found_by_name(kind: ModelKind) -> None:
    model = ModelConfig(path="/models/Toy-1")
    config = RunConfig.model_validate({"name": "toy", "clips": {"sources": []}, "candidates": {"model": model}})
    found = known_network(config)
    assert found is not None and found[0] is TOY and found[1].training_flops(config) == 1.0


def test_it_generates_candidates_with_guidance(kind: ModelKind) -> None:
    model = load(kind)
    conditioning = encoded(model)
    generated = generate(model, conditioning, [1, 2], CONFIG)
    assert generated.videos.shape == (2, FRAMES, HEIGHT, WIDTH, 3)
    unguided = generate(model, conditioning, [1, 2], CONFIG.model_copy(update={"guidance_scale": 1.0}))
    assert not torch.equal(generated.latents, unguided.latents)


def test_it_trains_and_writes_its_own_files(kind: ModelKind) -> None:
    result = trained(load(kind))
    assert set(result.files) == {LORA_FILE, SHADOW_FILE}
    assert [log.step for log in result.history] == [0, 1, 2]
    assert result.history[0].loss == pytest.approx(np.log(2))
    assert result.history[-1].loss < result.history[0].loss
    assert set(safetensors.torch.load(result.weights)) == {
        f"layers.{layer}.mix.lora_{matrix}.weight" for layer in (0, 1) for matrix in "AB"
    }


def test_its_lora_is_loaded_and_moves_it(kind: ModelKind) -> None:
    aligned = load(kind, trained(load(kind)).weights)
    conditioning = encoded(aligned)
    video = generate(load(kind), conditioning, [1], CONFIG).videos[0]
    assert velocity_drift(aligned, conditioning, aligned.encode_video(video), seed=1) > 0
