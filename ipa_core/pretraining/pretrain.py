"""Makes the small base model from nothing: rendered clips -> codec -> flow model -> WanVACEPipeline folder.

The work folder keeps every part under a name made of the config fields that it depends on. A killed run therefore goes
on where it was, and a changed config recomputes only the parts that it changes.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import safetensors.torch
import torch

from ipa_core.people.dataset import SHARD_CLIPS, Progress, RenderedSet, Shooting, load_shards, render_shards
from ipa_core.pretraining.codec import LinearCodec, build_autoencoder, finetune_decoder, fit_linear_codec
from ipa_core.pretraining.config import PretrainConfig
from ipa_core.pretraining.control import draw_control
from ipa_core.pretraining.encoded import encode_shards
from ipa_core.pretraining.flow import TrainingBatches, embed_prompts, train_flow
from ipa_core.pretraining.pipeline import assemble, build_text_encoder, build_transformer, save_compact


@dataclass(frozen=True)
class PretrainReport:
    """pipeline: the WanVACEPipeline folder. clips, flow_steps: size of the training. seconds: of this call alone."""

    pipeline: Path
    clips: int
    flow_steps: int
    parameters: int
    seconds: float


def pretrain(
    config: PretrainConfig, workdir: Path, output: Path, *, device: str = "cpu", progress: Progress | None = None
) -> PretrainReport:
    """Train the small base model and save it as a diffusers pipeline folder ``output``. device: "cpu" or "cuda"; "cuda"
    multiplies in TF32. Raises ``ImportError`` without the extra ``[synthetic]`` when clips have to be rendered."""
    started = time.monotonic()
    torch.backends.cuda.matmul.allow_tf32 = True
    data = config.data
    processes = os.cpu_count() or 1
    shards = render_shards(
        workdir / "clips", data.clips, shooting(config, data.seed), processes=processes, progress=progress
    )
    pictures = load_shards(shards[: -(-config.codec.clips // SHARD_CLIPS)])
    codec = linear_codec(config, workdir, pictures)
    autoencoder = autoencoder_of(codec, config, workdir, pictures, device=device, progress=progress)
    encoded = encode_shards(
        shards,
        latents_folder(config, workdir),
        codec,
        config.training,
        seed=config.seed,
        processes=processes,
        progress=progress,
    )
    text_encoder = build_text_encoder(config.model, config.seed)
    transformer = build_transformer(config.model, config.codec.channels, config.seed)
    pipeline = assemble(autoencoder, transformer, text_encoder)
    train_flow(
        transformer,
        TrainingBatches(encoded.to(device), codec, config.training, config.seed),
        embed_prompts(pipeline.tokenizer, text_encoder),
        config.training,
        flow_checkpoint(config, workdir),
        seed=config.seed,
        device=device,
        workers=_workers(config, device),
        progress=progress,
    )
    save_compact(pipeline, output)
    return PretrainReport(
        pipeline=output,
        clips=data.clips,
        flow_steps=config.training.steps,
        parameters=sum(parameter.numel() for parameter in transformer.parameters()),
        seconds=time.monotonic() - started,
    )


def shooting(config: PretrainConfig, seed: int) -> Shooting:
    data = config.data
    return Shooting(seed, data.size, data.frames, data.fps, data.clips_per_person)


def _workers(config: PretrainConfig, device: str) -> int:
    halves = device == "cpu" and torch.get_num_threads() > 1 and config.training.batch_size % 2 == 0
    return 2 if halves else 1


def linear_codec(config: PretrainConfig, workdir: Path, pictures: RenderedSet) -> LinearCodec:
    """Return the linear code of these pictures, or that of an earlier call with the same config."""
    path = workdir / f"linear-{_digest(_linear_fields(config))}.safetensors"
    if not path.exists():
        codec = fit_linear_codec(pictures, _sample_controls(pictures), config.codec)
        tensors = {"basis": codec.basis.contiguous(), "scale": codec.scale, "mean": codec.mean}
        safetensors.torch.save_file(tensors, path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)
    return LinearCodec(**safetensors.torch.load_file(path))


def autoencoder_of(
    codec: LinearCodec,
    config: PretrainConfig,
    workdir: Path,
    pictures: RenderedSet,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Any:
    """Return the code as AutoencoderKLWan with fine-tuned decoder, or that of an earlier call with the same config."""
    path = workdir / f"autoencoder-{_digest(_linear_fields(config), config.codec.model_dump())}.safetensors"
    autoencoder = build_autoencoder(codec, config.codec)
    if path.exists():
        autoencoder.load_state_dict(safetensors.torch.load_file(path))
    else:
        finetune_decoder(autoencoder, codec, pictures, config.codec, seed=config.seed, device=device, progress=progress)
        safetensors.torch.save_file(autoencoder.state_dict(), path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)
    return autoencoder


def _sample_controls(pictures: RenderedSet) -> np.ndarray:
    """Draw some controls with all fingers: uint8 ``[N, T, H, W, 3]``."""
    size = pictures.frames.shape[2]
    return np.stack(
        [
            draw_control(pictures.keypoints[index], pictures.confidence[index], size, "full")
            for index in range(min(30, len(pictures)))
        ]
    )


def latents_folder(config: PretrainConfig, workdir: Path) -> Path:
    """Return a path that depends on the linear code and on how the controls are drawn."""
    drawing = config.training.model_dump(include={"palm_share", "none_share", "jitter"})
    return workdir / f"latents-{_digest(_linear_fields(config), drawing)}"


def flow_checkpoint(config: PretrainConfig, workdir: Path) -> Path:
    """Return a path that is independent of the number of steps, so a longer run goes on from a shorter one."""
    model = config.model_dump(include={"model", "training"}, exclude={"training": {"steps", "checkpoint_every"}})
    return workdir / f"flow-{_digest(_linear_fields(config), model)}.safetensors"


def _linear_fields(config: PretrainConfig) -> dict[str, Any]:
    return config.model_dump(include={"seed": True, "data": True, "codec": {"clips", "channels", "hand_weight"}})


def _digest(*parts: dict[str, Any]) -> str:
    return blake3.blake3(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
