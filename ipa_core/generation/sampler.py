"""Sample the latents of a clip's candidates: the denoising loop of diffusers' pipelines, for several seeds at once.

A pipeline itself takes one seed at a time and encodes the clip again for each seed (diffusers 0.42).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ipa_core.config import CandidatesConfig
from ipa_core.generation.guidance import Guidance
from ipa_core.models.animation import AnimationModel
from ipa_core.models.conditioning import Conditioning

Progress = Callable[[int, int], None]
"""Called with the number of finished steps and of all steps, both summed over the seeds. Decoding a video counts as one
step more; see :func:`steps_of`."""


def steps_of(seeds: int, config: CandidatesConfig) -> int:
    """Return the steps of so many videos: those of the sampler, and one to decode each video."""
    return seeds * (config.steps + 1)


@torch.no_grad()
def sample(
    model: AnimationModel,
    conditioning: Conditioning,
    seeds: Sequence[int],
    config: CandidatesConfig,
    progress: Progress | None = None,
) -> Tensor:
    """Return final latents of a clip's candidates, float32 ``[K, C, R + T', h, w]`` on the CPU, ordered as ``seeds``.

    A single seed gives the pipeline's result, a batch the same up to rounding. When the accelerator's memory is too
    small, the batch is halved, down to one seed. Raises ``torch.OutOfMemoryError`` when one seed does not fit.
    """
    conditioning = conditioning.to(model.device)
    batch = len(seeds)
    finished: list[Tensor] = []

    def advance(steps: int) -> None:
        if progress is not None:
            progress(len(finished) * config.steps + steps, steps_of(len(seeds), config))

    while len(finished) < len(seeds):
        group = seeds[len(finished) : len(finished) + batch]
        try:
            with model.sampling():
                latents = _sample_batch(model, conditioning, group, config, advance)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            latents = None
        if latents is None:  # not inside `except`: the error keeps the failed batch's tensors alive
            batch = (batch + 1) // 2
            torch.cuda.empty_cache()
        else:
            finished += latents.float().cpu().unbind()
    return torch.stack(finished)


def _sample_batch(
    model: AnimationModel,
    conditioning: Conditioning,
    seeds: Sequence[int],
    config: CandidatesConfig,
    advance: Callable[[int], None],
) -> Tensor:
    batch = len(seeds)
    guided = _repeated(conditioning.streams(), batch)
    unguided = _repeated(conditioning.streams(guided=False), batch) if config.guidance_scale > 1 else None
    guidance = Guidance(model, guided, unguided, config.guidance_scale)
    scheduler = model.scheduler(config)
    scheduler.set_timesteps(config.steps, device=model.device)
    latents = _noise(model.latent_shape(conditioning), seeds).to(model.device)
    for step, timestep in enumerate(scheduler.timesteps):
        t = (timestep.double() / 1000).expand(batch)
        latents = scheduler.step(guidance.velocity(latents, t), timestep, latents, return_dict=False)[0]
        advance((step + 1) * batch)
    return latents


def _noise(shape: tuple[int, ...], seeds: Sequence[int]) -> Tensor:
    """Draw with one random source per seed on the CPU: a seed gives the same noise on every device, in every batch."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def _repeated(streams: Mapping[str, Tensor], batch: int) -> dict[str, Tensor]:
    """Expand each ``[1, ...]`` to ``[batch, ...]`` without a copy."""
    return {name: stream.expand(batch, *stream.shape[1:]) for name, stream in streams.items()}
