"""Put samples together for one forward pass, and compute a model's error on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ipa_core.alignment.draws import draw
from ipa_core.alignment.flow import flow_target, interpolate, shift_timesteps, unshift_timesteps
from ipa_core.alignment.halo import SquaredError, halo_error, squared_error
from ipa_core.config import AlignmentConfig
from ipa_core.models.animation import AnimationModel
from ipa_core.records import Digest


@dataclass(frozen=True)
class Example:
    """One sample as training uses it, on the CPU.

    digest: noise and t follow from this digest, the seed and the epoch. It is that of the candidate's latents; for
        methods that learn from losers that of the conditioning, so that a clip's candidates share their draws.
    own_noise: seed of the candidate's own starting noise, if that is drawn on (``noise: own``).
    clean: float32 ``[C, R + T', h, w]``, normalised latents with the reference frames in front.
    hand_mask: float32 ``[T', h, w]`` in [0, 1].
    streams: inputs of the model's ``velocity`` by name, each without the batch dimension.
    """

    key: str
    digest: Digest
    clean: Tensor
    hand_mask: Tensor
    streams: Mapping[str, Tensor]
    reference_frames: int
    own_noise: int | None = None


@dataclass(frozen=True)
class Batch:
    """B examples with their noise and t ``[B]``, on the model's device. Each field stacks that of :class:`Example`."""

    clean: Tensor
    noise: Tensor
    t: Tensor
    hand_mask: Tensor
    streams: Mapping[str, Tensor]
    reference_frames: int


def collate(
    examples: Sequence[Example],
    epochs: Sequence[int],
    config: AlignmentConfig,
    device: torch.device,
    t_range: tuple[float, float] = (0.0, 1.0),
) -> Batch:
    """Stack examples and draw their noise and t within the range. Raises ``ValueError`` when their shapes differ."""
    first = examples[0]
    for other in examples[1:]:
        if _shapes(other) != _shapes(first):
            raise ValueError(
                f"samples of different shapes can't share a batch: {first.key} has {_shapes(first)}, {other.key} has "
                f"{_shapes(other)}; train them apart, or set alignment.accumulation to alignment.batch_size"
            )
    draws = [
        draw(config.seed, example.digest, epoch, example.clean.shape)
        for example, epoch in zip(examples, epochs, strict=True)
    ]
    t = _drawn_t(torch.stack([t for _, t in draws]), config, t_range)
    return Batch(
        clean=torch.stack([example.clean for example in examples]).to(device),
        noise=torch.stack([_noise(one, drawn) for one, (drawn, _) in zip(examples, draws, strict=True)]).to(device),
        t=t.to(device),
        hand_mask=torch.stack([example.hand_mask for example in examples]).to(device),
        streams={name: torch.stack([one.streams[name] for one in examples]).to(device) for name in first.streams},
        reference_frames=first.reference_frames,
    )


def _drawn_t(uniform: Tensor, config: AlignmentConfig, t_range: tuple[float, float]) -> Tensor:
    """Return t ``[B]``: of the config's distribution, the part within the range."""
    shift = config.timestep_shift if config.timesteps == "shifted" else 1.0
    low, high = (unshift_timesteps(t, shift) for t in t_range)
    t = low + (high - low) * uniform
    return shift_timesteps(t, shift) if config.timesteps == "shifted" else t


def velocity_error(model: AnimationModel, batch: Batch, config: AlignmentConfig) -> Tensor:
    """Return the model's HALO error e ``[B]``, float32: e_theta with the adapter on, e_ref with the adapter off."""
    target = flow_target(batch.clean, batch.noise)
    prediction = velocity(model, batch, config)
    frames = batch.reference_frames
    return halo_error(prediction, target, batch.hand_mask, config.hand_weight, frames, config.reduction)


def velocity_squared_error(model: AnimationModel, batch: Batch, config: AlignmentConfig) -> SquaredError:
    """Return the squared errors from which :func:`velocity_error` follows for any hand weight."""
    target = flow_target(batch.clean, batch.noise)
    return squared_error(velocity(model, batch, config), target, batch.hand_mask, batch.reference_frames)


def velocity(model: AnimationModel, batch: Batch, config: AlignmentConfig) -> Tensor:
    """Return the model's velocity at the batch's points, in the shape of ``batch.clean``."""
    noisy = interpolate(batch.clean, batch.noise, batch.t)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
        return model.velocity(noisy, batch.t, batch.streams)


def _noise(example: Example, drawn: Tensor) -> Tensor:
    if example.own_noise is None:
        return drawn
    return torch.randn(tuple(example.clean.shape), generator=torch.Generator().manual_seed(example.own_noise))


def _shapes(example: Example) -> str:
    streams = "".join(f", {name} {list(stream.shape)}" for name, stream in sorted(example.streams.items()))
    return f"latents {list(example.clean.shape)} of which {example.reference_frames} of the reference{streams}"
