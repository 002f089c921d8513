"""Train the network that compares hands (scoring.finger_pairs) on pairs of whole and of spoilt hands."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from ipa_core.scoring.crops import SCALE, SIZE
from ipa_core.scoring.finger_pairs import SKELETON_STEP, FingerPairNetwork, as_input

log = logging.getLogger(__name__)
BATCH: Final = 32
LEARNING_RATE: Final = 2.5e-3
REAL_SHARE: Final = 0.1
"""Share of each batch from recordings, when there are any."""
_LABELS: Final = 0.02, 0.98
"""Labels of spoilt and of whole hands: some faults can hardly be seen."""
_LEAST_SEEN: Final = 1.5
"""Least mean of `Material.where` of a fault that can be seen."""
_FAR: Final = 0.2
"""Share of the candidates whose points lie far off."""
_LOCATED: Final = 2.0
"""Weight of the loss of the map of faults."""
_OF_FAULTS: Final = torch.tensor(4.0)
"""Weight of the cells that a fault changes, which are few."""


@dataclass(frozen=True)
class Lesson:
    """A part of the training: ``steps`` batches, crops shrunk to ``side`` pixels. Small crops cost little."""

    steps: int
    side: int


COURSE: Final = (Lesson(2400, 64), Lesson(1600, 96), Lesson(1200, SIZE))


@dataclass(frozen=True, eq=False)
class Material:
    """pictures: uint8 ``[N, SIZE, SIZE, 6]`` (candidate, driving); drawn: driving skeletons uint8
    ``[N, SIZE / 4, SIZE / 4, 5]``; where: the shares, of 255, that faults change, uint8 ``[N, CELLS, CELLS]``; whole,
    real: bool ``[N]``."""

    pictures: np.ndarray
    drawn: np.ndarray
    where: np.ndarray
    whole: np.ndarray
    real: np.ndarray

    @classmethod
    def load(cls, files: Sequence[Path], *, real: int = 0) -> Self:
        """Read files of pairs, of which the last ``real`` come from recordings. Raises ``ValueError`` without pairs."""
        counts = []
        for path in files:
            with np.load(path, allow_pickle=False) as one:
                counts.append(len(one["kind"]))
        total = sum(counts)
        if not total:
            raise ValueError("there are no pairs of hands to train on")
        found: dict[str, np.ndarray] = {"real": np.repeat(np.arange(len(files)) >= len(files) - real, counts)}
        start = 0
        for path, count in zip(files, counts, strict=True):
            with np.load(path, allow_pickle=False) as one:
                parts = {
                    "pictures": one["pictures"],
                    "drawn": one["drawn"],
                    "where": one["where"],
                    "whole": one["kind"] == "",
                }
                for name, part in parts.items():
                    found.setdefault(name, np.empty((total, *part.shape[1:]), part.dtype))[start : start + count] = part
            start += count
        # An object may cover the fault.
        seen = found["whole"] | (found["where"].mean(axis=(1, 2)) >= _LEAST_SEEN)
        return cls(**{name: part if seen.all() else part[seen] for name, part in found.items()})


def train(
    material: Material,
    weights: Path,
    *,
    course: Sequence[Lesson],
    seed: int = 0,
    recipe: Mapping[str, str] | None = None,
    start: Path | None = None,
) -> None:
    """Fit the network and write it to ``weights`` (safetensors, with ``recipe`` as metadata).

    Training begins with the weights in ``start`` or with random ones and draws both classes equally often. One learning
    rate rises and then falls to 0 over all lessons.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = FingerPairNetwork()
    if start is not None:
        network.load_state_dict(load_file(start))
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    sides = [lesson.side for lesson in course for _ in range(lesson.steps)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=len(sides), pct_start=0.1)
    began, total, done, work = time.monotonic(), 0.0, 0.0, float(np.sum(np.square(sides)))
    network.train()
    for step, side in enumerate(sides, 1):
        drawn = _draw(material, rng)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        pictures, bones = as_input(material.pictures[drawn]), as_input(material.drawn[drawn])
        where = torch.from_numpy(material.where[drawn]).float()[:, None] / 255
        pictures, bones, where = augment(*_resized(pictures, bones, side), where, generator)
        spoilt, whole = _LABELS
        labels = torch.from_numpy(np.where(material.whole[drawn], whole, spoilt)).float()
        answer, faults = network.both(pictures, bones)
        where = F.adaptive_avg_pool2d(where, (faults.shape[1], faults.shape[2]))[:, 0].mul(3).clamp(max=1)
        loss = F.binary_cross_entropy_with_logits(answer, labels)
        located = F.binary_cross_entropy_with_logits(faults, where, pos_weight=_OF_FAULTS)
        optimizer.zero_grad()
        (loss + _LOCATED * located).backward()
        optimizer.step()
        schedule.step()
        total, done = total + loss.item(), done + side**2
        if step % 50 == 0:
            left = (time.monotonic() - began) * (work / done - 1)
            log.info("fingers: step %d of %d, loss %.3f, about %.0f s left", step, len(sides), total / 50, left)
            total = 0.0
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    lessons = ", ".join(f"{lesson.steps} at {lesson.side}" for lesson in course)
    about = {"pairs": str(len(material.whole)), "steps": lessons, "batch": str(BATCH), "seed": str(seed)}
    save_file(state, weights, metadata={**about, **(recipe or {})})


def _resized(pictures: torch.Tensor, bones: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    if side == SIZE:
        return pictures, bones
    small = side // SKELETON_STEP
    return (
        F.interpolate(pictures, (side, side), mode="area"),
        F.interpolate(bones, (small, small), mode="bilinear", align_corners=False),
    )


def _draw(material: Material, rng: np.random.Generator) -> np.ndarray:
    """Return the indices of a batch: half whole, half spoilt, and REAL_SHARE from recordings."""
    parts = []
    real = round(BATCH // 2 * REAL_SHARE) if material.real.any() else 0
    for whole in (True, False):
        for recorded, count in ((False, BATCH // 2 - real), (True, real)):
            places = np.flatnonzero((material.whole == whole) & (material.real == recorded))
            if len(places):
                parts.append(rng.choice(places, count))
    return np.concatenate(parts)


def misplacements(count: int, generator: torch.Generator) -> torch.Tensor:
    """Return affine maps ``[N, 2, 3]`` of crops with errors like those of a hand that was laid upon the other: some
    hundredths of a hand, a fifth of them up to 0.15."""
    far = torch.where(torch.rand(count, generator=generator) < _FAR, 2.5, 1.0)
    shift = (0.02 * far[:, None] * torch.randn(count, 2, generator=generator)).clamp(-0.15, 0.15) * 2 / SCALE
    angle = (0.03 * far * torch.randn(count, generator=generator)).clamp(-0.3, 0.3)
    scale = (0.03 * far * torch.randn(count, generator=generator)).clamp(-0.15, 0.15).exp()
    rows = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2) * scale[:, None, None]
    return torch.cat([rows, shift[:, :, None]], 2)


def augment(
    pictures: torch.Tensor, bones: torch.Tensor, where: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mirror half of the batches' pairs, misplace the candidate's hand, and give both hands other colours, the
    candidate also its own. ``pictures``: ``[N, 6, S, S]`` in [0, 1]; ``bones``: ``[N, 5, s, s]``; ``where``:
    ``[N, 1, c, c]``."""
    count = len(pictures)

    def draw(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    pictures = torch.where(mirrored, pictures.flip(3), pictures)
    bones = torch.where(mirrored, bones.flip(3), bones)
    where = torch.where(mirrored, where.flip(3), where)
    moved = misplacements(count, generator)
    ours, where = (
        F.grid_sample(
            one, F.affine_grid(moved, list(one.shape), align_corners=False), padding_mode="border", align_corners=False
        )
        for one in (pictures[:, :3], where)
    )
    pictures = torch.cat([ours, pictures[:, 3:]], 1)
    if torch.rand((), generator=generator) < 0.3:
        order = torch.randperm(3, generator=generator)
        pictures = pictures[:, torch.cat([order, order + 3])]
    # Another person's skin is lighter or darker by as much.
    lighter = draw(-0.45, 0.45, count, 1, 1, 1).exp()
    gain = torch.cat([lighter * draw(0.85, 1.15, count, 3, 1, 1), draw(0.8, 1.2, count, 3, 1, 1)], 1)
    lift = draw(-0.1, 0.1, count, 6, 1, 1)
    both, lifted = draw(0.8, 1.2, count, 3, 1, 1).repeat(1, 2, 1, 1), draw(-0.1, 0.1, count, 3, 1, 1).repeat(1, 2, 1, 1)
    own = (torch.rand(count, 1, 1, 1, generator=generator) < 0.5).float()
    pictures = pictures * (both * (1 - own) + gain * own) + lifted * (1 - own) + lift * own
    noise = torch.randn(count, 3, *pictures.shape[2:], generator=generator).repeat(1, 2, 1, 1)
    pictures = pictures + draw(0, 0.015, count, 1, 1, 1) * noise
    return pictures.clamp(0, 1).contiguous(memory_format=torch.channels_last), bones, where
