"""The config of `ipa lab pretrain` (rendered clips -> codec -> flow model), such as configs/pretrain.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ipa_core.config import Config, Fraction, Positive, PositiveInt
from ipa_core.config_file import read_config


class TrainingSetConfig(Config):
    """The rendered clips. Clip i shows person i // clips_per_person, who is drawn from the seed."""

    clips: PositiveInt = 4800
    clips_per_person: PositiveInt = 2
    """With two clips, the reference image can come from another clip than the animated one."""
    seed: int = 1
    size: PositiveInt = 96
    """Pixels of the square picture, a multiple of 8."""
    frames: PositiveInt = 5
    """F. The codec wants 4 n + 1. The patches want F + 1 to be a multiple of their length in time."""
    fps: Positive = 8.0


class CodecConfig(Config):
    """A linear codec (PCA of 8 x 8 blocks), written into AutoencoderKLWan. Then its decoder is fine-tuned."""

    clips: PositiveInt = 1200
    """The codec is made from so many clips at the start of the training set."""
    channels: PositiveInt = 24
    """z, latent channels per 8 x 8 block."""
    encoder_dim: PositiveInt = 64
    decoder_dim: PositiveInt = 96
    """``encoder_dim`` and ``decoder_dim`` are the widths of the two halves, each at least 2 z + 1."""
    hand_weight: Annotated[float, Field(ge=0)] = 3.0
    """Blocks and pixels of hands count 1 + this."""
    steps: Annotated[int, Field(ge=0)] = 500
    """Steps of the decoder's fine-tuning. 0 leaves the linear codec."""
    batch_size: PositiveInt = 4
    crop: PositiveInt = 48
    """Pixels of the training crops, a multiple of 8."""
    learning_rate: Positive = 2e-4

    @model_validator(mode="after")
    def _check(self) -> CodecConfig:
        if min(self.encoder_dim, self.decoder_dim) < 2 * self.channels + 1:
            raise ValueError(
                f"encoder_dim and decoder_dim must be at least 2 * channels + 1 = {2 * self.channels + 1}, "
                f"got {self.encoder_dim} and {self.decoder_dim}"
            )
        return self


class FlowModelConfig(Config):
    """Geometry of the WanVACETransformer3DModel and its text encoder."""

    heads: PositiveInt = 4
    head_dim: PositiveInt = 48
    layers: PositiveInt = 5
    vace_layers: tuple[int, ...] = (0, 2)
    ffn_dim: PositiveInt = 768
    patch: tuple[int, int, int] = (3, 1, 1)
    """Latents per token in time, height, width. Three in time, because the reference image is the sixth frame."""
    text_dim: PositiveInt = 32


class FlowTrainingConfig(Config):
    """Flow matching from scratch."""

    steps: PositiveInt = 14000
    batch_size: PositiveInt = 4
    learning_rate: Positive = 1.2e-3
    warmup_steps: PositiveInt = 60
    decay: Fraction = 0.6
    """Share of the steps, at the end, over which the learning rate falls linearly to 2 %."""
    ema: Fraction = 0.998
    """Decay of the weight average. The average is saved."""
    hand_weight: Annotated[float, Field(ge=0)] = 6.0
    """Latents of hands count 1 + this times their share of hand pixels."""
    palm_share: Fraction = 0.5
    none_share: Fraction = 0.25
    """``palm_share`` and ``none_share``: shares of samples whose control shows only the palms, or no hands. The others
    show all fingers. Where fingers are left open, seeds change the hands, so there is something to prefer."""
    jitter: Annotated[float, Field(ge=0)] = 0.02
    """Standard deviation of the drawn hand points, in hand sizes, because at inference a detector finds them."""
    same_clip_reference: Fraction = 0.6
    """Share of samples whose reference image is a frame of the clip itself; else of any clip of the performer."""
    prompt_dropout: Fraction = 0.1
    checkpoint_every: PositiveInt = 200


class PretrainConfig(Config):
    seed: int = 0
    data: TrainingSetConfig = TrainingSetConfig()
    codec: CodecConfig = CodecConfig()
    model: FlowModelConfig = FlowModelConfig()
    training: FlowTrainingConfig = FlowTrainingConfig()

    @model_validator(mode="after")
    def _check(self) -> PretrainConfig:
        latent_frames = self.data.frames + 1
        if self.data.size % 8 or self.data.frames % 4 != 1 or latent_frames % self.model.patch[0]:
            raise ValueError(
                "data.size must be a multiple of 8, data.frames be 4 n + 1, and data.frames + 1 a multiple of "
                f"model.patch[0]; got {self.data.size}, {self.data.frames} and {self.model.patch[0]}"
            )
        return self


def load_pretrain_config(path: Path) -> PretrainConfig:
    """Read a YAML config such as configs/pretrain.yaml. Raises :class:`ConfigError`, which names the wrong fields."""
    return read_config(path, PretrainConfig)
