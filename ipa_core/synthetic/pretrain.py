"""The small base model from nothing: rendered clips -> codec -> flow model -> WanVACEPipeline folder.

Every part is kept in the work folder under a name made of the config fields that it depends on, so that a killed run
goes on where it was, and a changed config recomputes what it changes.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import safetensors.torch
from diffusers import AutoencoderKLWan

from ipa_core.synthetic.codec import LinearCodec, build_autoencoder, finetune_decoder, fit_linear_codec
from ipa_core.synthetic.config import PretrainConfig
from ipa_core.synthetic.control import draw_control
from ipa_core.synthetic.dataset import SHARD_CLIPS, Progress, RenderedSet, load_shards, render_shards
from ipa_core.synthetic.encoded import encode_shards
from ipa_core.synthetic.flow import TrainingBatches, embed_prompts, train_flow
from ipa_core.synthetic.pipeline import assemble, build_text_encoder, build_transformer


@dataclass(frozen=True)
class PretrainReport:
    """pipeline: the WanVACEPipeline folder. clips, flow_steps: what it was trained on. seconds: of this call alone."""

    pipeline: Path
    clips: int
    flow_steps: int
    parameters: int
    seconds: float


def pretrain(
    config: PretrainConfig,
    workdir: Path,
    output: Path,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> PretrainReport:
    """Train the small base model and save it as a diffusers pipeline folder ``output``.

    device: "cpu" or "cuda". Raises ``ImportError`` without the extra ``[synthetic]`` while clips have to be rendered.
    """
    started = time.monotonic()
    data = config.data
    shards = render_shards(
        workdir / "clips", data.clips, seed=data.seed, size=data.size, frames=data.frames, fps=data.fps, progress=progress
    )
    codec, autoencoder = train_codec(config, workdir, shards, device=device, progress=progress)
    codec_of = config.model_dump(include={"seed", "data", "codec"})
    drawing_of = config.training.model_dump(include={"palm_share", "none_share", "jitter"})
    encoded = encode_shards(
        shards,
        workdir / f"latents-{_digest(codec_of, drawing_of)}",
        codec,
        config.training,
        seed=config.seed,
        progress=progress,
    )
    text_encoder = build_text_encoder(config.model, config.seed)
    transformer = build_transformer(config.model, config.codec.channels, config.seed)
    pipeline = assemble(autoencoder, transformer, text_encoder)
    train_flow(
        transformer,
        TrainingBatches(encoded, codec, config.training, config.seed),
        embed_prompts(pipeline.tokenizer, text_encoder),
        config.training,
        workdir / f"flow-{_digest(config.model_dump(exclude={'training': {'steps', 'checkpoint_every'}}))}.safetensors",
        seed=config.seed,
        device=device,
        progress=progress,
    )
    pipeline.save_pretrained(output)
    return PretrainReport(
        pipeline=output,
        clips=data.clips,
        flow_steps=config.training.steps,
        parameters=sum(parameter.numel() for parameter in transformer.parameters()),
        seconds=time.monotonic() - started,
    )


def train_codec(
    config: PretrainConfig,
    workdir: Path,
    shards: list[Path],
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[LinearCodec, AutoencoderKLWan]:
    """The linear codec and the autoencoder made from it, or those of an earlier call with the same config."""
    folder = workdir / f"codec-{_digest(config.model_dump(include={'seed', 'data', 'codec'}))}"
    if (folder / "vae").exists():
        linear = LinearCodec(**safetensors.torch.load_file(folder / "linear.safetensors"))
        return linear, AutoencoderKLWan.from_pretrained(folder / "vae").eval()
    pictures = load_shards(shards[: -(-config.codec.clips // SHARD_CLIPS)])
    linear = fit_linear_codec(pictures, _sample_controls(pictures), config.codec)
    autoencoder = build_autoencoder(linear, config.codec)
    finetune_decoder(
        autoencoder, linear, pictures, config.codec, seed=config.seed, device=device, progress=progress
    )
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(
        {"basis": linear.basis.contiguous(), "scale": linear.scale, "mean": linear.mean}, folder / "linear.safetensors"
    )
    autoencoder.save_pretrained(folder / "partial")
    (folder / "partial").rename(folder / "vae")
    return linear, autoencoder


def _sample_controls(pictures: RenderedSet) -> np.ndarray:
    """Some control drawings with all fingers: uint8 ``[N, T, H, W, 3]``."""
    size = pictures.frames.shape[2]
    return np.stack(
        [
            draw_control(pictures.keypoints[index], pictures.confidence[index], size, "full")
            for index in range(min(30, len(pictures)))
        ]
    )


def _digest(*parts: dict[str, Any]) -> str:
    return blake3.blake3(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
