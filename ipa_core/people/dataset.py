"""Rendered clips on disk: mp4s for people and the pipeline, safetensors shards for pretraining.

A clip follows from ``seed`` and ``index`` alone, in whatever order clips are rendered, so a killed run only renders the
missing shards. The mp4s show the six performers in turn. The shards show strangers, a few clips of each.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import safetensors.numpy

from ipa_core.people.performers import PERFORMERS, PROMPT, random_performer
from ipa_core.video import encode_video

SHARD_CLIPS = 60
Progress = Callable[[str, float], None]
"""Takes a description of the work and the share that is done, in [0, 1]."""


@dataclass(frozen=True, eq=False)
class RenderedSet:
    """N clips of T frames.

    frames: uint8 ``[N, T, H, W, 3]``; keypoints: float32 ``[N, T, 133, 2]``, pixels; confidence: float32
    ``[N, T, 133]``; hand_mask: bool ``[N, T, H, W]``; person: int64 ``[N]``, the person's number in the set.
    """

    frames: np.ndarray
    keypoints: np.ndarray
    confidence: np.ndarray
    hand_mask: np.ndarray
    person: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


def render_clips(
    output: Path,
    count: int,
    *,
    seed: int = 0,
    size: int = 256,
    frames: int = 24,
    fps: float = 16.0,
    progress: Progress | None = None,
) -> list[Path]:
    """Render ``count`` driving clips as H.264 mp4s, with ``metadata.csv`` (columns file, prompt, group) beside them.

    size: pixels of the square picture, even. Returns the videos' paths. Raises ``ImportError`` without the extra
    ``[synthetic]``, and ``ValueError`` for an odd size.
    """
    if size % 2:
        raise ValueError(f"H.264 wants an even size, got {size}")
    from ipa_core.people.render import render_clip

    output.mkdir(parents=True, exist_ok=True)
    rows, paths = [], []
    for index in range(count):
        performer = PERFORMERS[index % len(PERFORMERS)]
        clip = render_clip(performer, seed=clip_seed(seed, index), size=size, frames=frames, fps=fps)
        path = output / f"{performer.name}-{seed:02d}-{index:03d}.mp4"
        partial = path.with_suffix(".partial")
        partial.write_bytes(encode_video(clip.frames, fps, crf=18))
        partial.replace(path)
        paths.append(path)
        rows.append((path.name, PROMPT, performer.name))
        if progress:
            progress(f"rendered {path.name}", (index + 1) / count)
    with (output / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "prompt", "group"))
        writer.writerows(rows)
    return paths


@dataclass(frozen=True)
class Shooting:
    """The settings that the clips of a set share. size: pixels of the square picture."""

    seed: int
    size: int
    frames: int
    fps: float
    clips_per_person: int

    def shard(self, start: int, stop: int) -> str:
        """Return the file name for the clips from ``start`` to before ``stop``."""
        people = f"{self.clips_per_person}each"
        return (
            f"seed{self.seed}-{people}-{self.size}px-{self.frames}x{self.fps:g}fps-{start:06d}-{stop:06d}.safetensors"
        )


def render_shards(
    folder: Path, count: int, shooting: Shooting, *, processes: int = 1, progress: Progress | None = None
) -> list[Path]:
    """Render ``count`` clips into safetensors shards of 60. Existing shards are kept. Returns all paths, in order.
    Raises ``ImportError`` without the extra ``[synthetic]`` when something has to be rendered."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [range(start, min(start + SHARD_CLIPS, count)) for start in range(0, count, SHARD_CLIPS)]
    paths = [folder / shooting.shard(part.start, part.stop) for part in parts]
    missing = [(path, part) for path, part in zip(paths, parts, strict=True) if not path.exists()]
    if not missing:
        return paths
    from ipa_core.people.body import body_model

    body_model()  # The first build on a machine fills a cache, and two processes must not do so at once.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        rendered = [pool.submit(_write_shard, path, part, shooting) for path, part in missing]
        for number, part in enumerate(as_completed(rendered), len(parts) - len(missing) + 1):
            part.result()
            if progress:
                progress(f"rendered {number} of {len(parts)} parts of the clips", number / len(parts))
    return paths


def load_shards(paths: list[Path]) -> RenderedSet:
    """Read shards of equal picture size and length into memory (a clip of 5 x 96 x 96 takes 190 kB)."""
    tensors = [safetensors.numpy.load_file(path) for path in paths]
    joined = {name: np.concatenate([part[name] for part in tensors]) for name in tensors[0]}
    return RenderedSet(
        frames=joined["frames"],
        keypoints=joined["keypoints"],
        confidence=joined["confidence"],
        hand_mask=joined["hand_mask"].astype(bool),
        person=joined["person"],
    )


def clip_seed(seed: int, index: int) -> int:
    """Return the seed of clip ``index``, independent between clips and between seeds."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])


def _write_shard(path: Path, indices: range, shooting: Shooting) -> None:
    import torch

    from ipa_core.people.render import render_clip

    torch.set_num_threads(1)  # Every core has a process of its own.
    people = [index // shooting.clips_per_person for index in indices]
    clips = [
        render_clip(
            random_performer(clip_seed(shooting.seed, person)),
            seed=clip_seed(shooting.seed, index),
            size=shooting.size,
            frames=shooting.frames,
            fps=shooting.fps,
        )
        for index, person in zip(indices, people, strict=True)
    ]
    partial = path.with_suffix(".partial")
    safetensors.numpy.save_file(
        {
            "frames": np.stack([clip.frames for clip in clips]),
            "keypoints": np.stack([clip.keypoints for clip in clips]),
            "confidence": np.stack([clip.confidence for clip in clips]),
            "hand_mask": np.stack([clip.hand_mask for clip in clips]).astype(np.uint8),
            "person": np.array(people),
        },
        partial,
    )
    partial.replace(path)
