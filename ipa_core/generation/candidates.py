"""Generate the candidates of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipa_core.config import CandidatesConfig
from ipa_core.generation.early import EarlyRejection, Judge
from ipa_core.generation.sampler import Progress, sample, steps_of
from ipa_core.models.animation import AnimationModel
from ipa_core.models.conditioning import Conditioning
from ipa_core.records import EarlyPreview


@dataclass(frozen=True, eq=False)
class Generated:
    """The candidates of one clip, in the order of the seeds.

    latents: float32 on the CPU ``[K, C, R + T', h, w]``, normalised, with the reference frames in front.
    videos: uint8 ``[K, T, H, W, 3]``. previews: those of early rejection, which stopped the seeds that are missing.
    """

    seeds: tuple[int, ...]
    latents: Tensor
    videos: np.ndarray
    previews: tuple[EarlyPreview, ...] = ()


def encode_clip(
    model: AnimationModel,
    control: Any,
    reference: np.ndarray,
    prompt: str,
    config: CandidatesConfig,
    before: np.ndarray | None = None,
) -> Conditioning:
    """Encode a clip once for all its candidates; see :meth:`~ipa_core.models.AnimationModel.encode_conditioning`."""
    negative_prompt = config.negative_prompt if config.guidance_scale > 1 else None
    others = () if before is None else (before,)
    return model.encode_conditioning(control, reference, prompt, negative_prompt, *others)


def generate(
    model: AnimationModel,
    conditioning: Conditioning,
    seeds: Sequence[int],
    config: CandidatesConfig,
    progress: Progress | None = None,
    judge: Judge | None = None,
) -> Generated:
    """Sample ``seeds`` as one batch and decode them. With a ``judge``, ``config.early`` stops some of them on the way.

    Raises ``torch.OutOfMemoryError`` when one seed does not fit, and ``FloatingPointError`` when the model's numbers
    are not finite: such a video would be black, and kept for good.
    """
    early = None if judge is None or config.early is None else EarlyRejection(model, config.early, judge)
    latents = sample(model, conditioning, seeds, config, progress, early)
    if not torch.isfinite(latents).all():
        raise FloatingPointError(
            "the model gave latents that are NaN or infinite; see whether its weights or the LoRA are damaged, or set "
            "candidates.model.dtype to bfloat16 or float32"
        )
    size = (conditioning.frames, conditioning.height, conditioning.width, 3)
    videos = model.decode(latents) if len(latents) else np.zeros((0, *size), np.uint8)
    if progress is not None:
        progress(steps_of(len(seeds), config), steps_of(len(seeds), config))
    previews = () if early is None else tuple(early.previews)
    stopped = {preview.seed for preview in previews if preview.stopped}
    return Generated(tuple(seed for seed in seeds if seed not in stopped), latents, videos, previews)


def animate(
    model: AnimationModel,
    control: Any,
    reference: np.ndarray,
    prompt: str,
    config: CandidatesConfig,
    seed: int,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return a video uint8 ``[T, H, W, 3]`` in which the person in ``reference`` moves as ``control`` says."""
    conditioning = encode_clip(model, control, reference, prompt, config)
    return generate(model, conditioning, [seed], config, progress).videos[0]
