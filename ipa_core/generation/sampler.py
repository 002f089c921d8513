"""Sample the latents of a clip's candidates: the denoising loop of diffusers' pipelines, for several seeds at once.

A pipeline itself takes one seed at a time and encodes the clip again for each seed (diffusers 0.42).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ipa_core.config import CandidatesConfig
from ipa_core.generation.guidance import Guidance
from ipa_core.models.animation import AnimationModel, Scheduler
from ipa_core.models.conditioning import Conditioning

Progress = Callable[[int, int], None]
"""Called with the number of finished steps and of all steps, both summed over the seeds. Decoding a video counts as one
step more; see :func:`steps_of`."""
Sieve = Callable[[float, Sequence[int], Tensor], Sequence[int]]
"""Called with t, the seeds that are under way and their predicted clean latents ``[K, C, R + T', h, w]`` (float32, on
the CPU). Returns those of the seeds that go on."""


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
    sieve: Sieve | None = None,
) -> Tensor:
    """Return final latents of a clip's candidates, float32 ``[K, C, R + T', h, w]`` on the CPU, ordered as ``seeds``.

    A single seed gives the pipeline's result, a batch the same up to rounding. When the accelerator's memory is too
    small, the batch is halved, down to one seed. Raises ``torch.OutOfMemoryError`` when one seed does not fit. With a
    ``sieve``, which is asked at each level of ``config.early``, the result has only seeds that went on to the end.
    """
    under_way = _Sampling(model, conditioning, seeds, config, progress)
    for level in config.early.at if sieve is not None and config.early is not None else ():
        t, clean = under_way.predicted(level)
        assert sieve is not None
        under_way.keep(sieve(t, under_way.seeds, clean))
        if not under_way.seeds:
            return torch.empty(0, *model.latent_shape(conditioning))
    return under_way.finished()


@dataclass(eq=False)
class _Part:
    """Seeds that are sampled as one batch, with all that their next step needs. It can be split between two steps."""

    seeds: list[int]
    latents: Tensor
    scheduler: Scheduler
    step: int = 0
    velocity: Tensor | None = None
    """The prediction of the step that comes next, if it was made already."""

    def only(self, places: Sequence[int]) -> _Part:
        """Return the seeds at these places as a part of their own."""
        scheduler = copy.deepcopy(self.scheduler)
        for name, value in vars(scheduler).items():
            setattr(scheduler, name, self._at(places, value))  # A multistep solver remembers earlier predictions.
        velocity = None if self.velocity is None else self.velocity[list(places)]
        return _Part(
            [self.seeds[place] for place in places], self.latents[list(places)], scheduler, self.step, velocity
        )

    def _at(self, places: Sequence[int], value: object) -> object:
        if isinstance(value, list):
            return [self._at(places, one) for one in value]
        if isinstance(value, Tensor) and value.shape == self.latents.shape:
            return value[list(places)]
        return value


class _Sampling:
    """The way of a clip's seeds from noise to clean latents."""

    def __init__(
        self,
        model: AnimationModel,
        conditioning: Conditioning,
        seeds: Sequence[int],
        config: CandidatesConfig,
        progress: Progress | None,
    ) -> None:
        conditioning = conditioning.to(model.device)
        self._model, self._config, self._progress = model, config, progress
        self._guided = conditioning.streams()
        self._unguided = conditioning.streams(guided=False) if config.guidance_scale > 1 else None
        scheduler = model.scheduler(config)
        scheduler.set_timesteps(config.steps, device=model.device)
        noise = _noise(model.latent_shape(conditioning), seeds).to(model.device)
        self._parts = [_Part(list(seeds), noise, scheduler)]
        self._largest = len(seeds)
        """Most seeds that fit into the memory at once, as far as is known."""
        self._done, self._whole = 0, steps_of(len(seeds), config)

    @property
    def seeds(self) -> list[int]:
        return [seed for part in self._parts for seed in part.seeds]

    def predicted(self, level: float) -> tuple[float, Tensor]:
        """Go on to the first step whose t is at most ``level``, or else to the last one. Return this t and the clean
        latents that the velocity there predicts, float32 on the CPU."""
        self._advance(level)
        first = self._parts[0]
        t = self._t(first)
        clean = [part.latents.float() - t * part.velocity.float() for part in self._parts if part.velocity is not None]
        return t, torch.cat(clean).cpu()

    def keep(self, seeds: Sequence[int]) -> None:
        """Leave the other seeds out from now on."""
        parts = []
        for part in self._parts:
            places = [place for place, seed in enumerate(part.seeds) if seed in seeds]
            stopped = len(part.seeds) - len(places)
            self._tell(stopped * (self._config.steps + 1 - part.step))
            if places:
                parts.append(part.only(places) if stopped else part)
        self._parts = parts

    def finished(self) -> Tensor:
        self._advance(None)
        return torch.cat([part.latents.float().cpu() for part in self._parts])

    def _advance(self, level: float | None) -> None:
        waiting, self._parts = self._parts, []
        while waiting:
            part = waiting.pop(0)
            if len(part.seeds) > self._largest:
                places = range(len(part.seeds))
                waiting[:0] = [part.only(places[: self._largest]), part.only(places[self._largest :])]
                continue
            too_big = False
            try:
                with self._model.sampling():
                    self._go(part, level)
            except torch.OutOfMemoryError:
                if len(part.seeds) == 1:
                    raise
                too_big = True
            if too_big:  # not inside `except`: the error keeps the failed batch's tensors alive
                self._largest = (len(part.seeds) + 1) // 2
                torch.cuda.empty_cache()
                waiting.insert(0, part)
            else:
                self._parts.append(part)

    def _go(self, part: _Part, level: float | None) -> None:
        """Step on until the velocity at the level is known; to the end with None."""
        batch = len(part.seeds)
        guided = _repeated(self._guided, batch)
        unguided = None if self._unguided is None else _repeated(self._unguided, batch)
        guidance = Guidance(self._model, guided, unguided, self._config.guidance_scale)
        while part.step < self._config.steps:
            timestep = part.scheduler.timesteps[part.step]
            if part.velocity is None:
                t = (timestep.double() / 1000).expand(batch)
                off = not self._config.guided_at(self._t(part))
                part.velocity = guidance.velocity(part.latents, t, off=off)
            if level is not None and (self._t(part) <= level or part.step == self._config.steps - 1):
                return
            part.latents = part.scheduler.step(part.velocity, timestep, part.latents, return_dict=False)[0]
            part.velocity = None
            part.step += 1
            self._tell(batch)

    def _t(self, part: _Part) -> float:
        return float(part.scheduler.timesteps[part.step]) / 1000

    def _tell(self, steps: int) -> None:
        self._done += steps
        if self._progress is not None and steps:
            self._progress(self._done, self._whole)


def _noise(shape: tuple[int, ...], seeds: Sequence[int]) -> Tensor:
    """Draw with one random source per seed on the CPU: a seed gives the same noise on every device, in every batch."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def _repeated(streams: Mapping[str, Tensor], batch: int) -> dict[str, Tensor]:
    """Expand each ``[1, ...]`` to ``[batch, ...]`` without a copy."""
    return {name: stream.expand(batch, *stream.shape[1:]) for name, stream in streams.items()}
