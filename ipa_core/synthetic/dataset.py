"""Rendered clips on disk: mp4s for people and the pipeline, safetensors shards for pretraining.

Clip ``index`` of seed ``seed`` shows performer ``index % 6`` and is the same picture whoever renders it, in whatever
order: a killed run goes on with the shards that are missing.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from ipa_core.synthetic.performers import PERFORMERS
from ipa_core.video import encode_video

SHARD_CLIPS = 60
Progress = Callable[[str, float], None]
"""Called with what is being done and its share done in [0, 1]."""


@dataclass(frozen=True, eq=False)
class RenderedSet:
    """N clips of T frames.

    frames: uint8 ``[N, T, H, W, 3]``; keypoints: float32 ``[N, T, 133, 2]``, pixels; confidence: float32
    ``[N, T, 133]``; hand_mask: bool ``[N, T, H, W]``; performer: int64 ``[N]``, index into PERFORMERS.
    """

    frames: np.ndarray
    keypoints: np.ndarray
    confidence: np.ndarray
    hand_mask: np.ndarray
    performer: np.ndarray

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
    ``[synthetic]`` and ``ValueError`` for an odd size.
    """
    if size % 2:
        raise ValueError(f"H.264 wants an even size, got {size}")
    from ipa_core.synthetic.render import render_clip

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
        rows.append((path.name, performer.prompt, performer.name))
        if progress:
            progress(f"rendered {path.name}", (index + 1) / count)
    with (output / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "prompt", "group"))
        writer.writerows(rows)
    return paths


def render_shards(
    folder: Path, count: int, *, seed: int, size: int, frames: int, fps: float, progress: Progress | None = None
) -> list[Path]:
    """Render ``count`` clips into safetensors shards of 60; shards that exist are kept. Returns all paths, in order.

    Raises ``ImportError`` without the extra ``[synthetic]`` when something has to be rendered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for start in range(0, count, SHARD_CLIPS):
        stop = min(start + SHARD_CLIPS, count)
        path = folder / f"seed{seed}-{size}px-{frames}x{fps:g}fps-{start:06d}-{stop:06d}.safetensors"
        paths.append(path)
        if not path.exists():
            _write_shard(path, range(start, stop), seed, size, frames, fps)
        if progress:
            progress(f"rendered {stop} of {count} training clips", stop / count)
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
        performer=joined["performer"],
    )


def clip_seed(seed: int, index: int) -> int:
    """Seed of clip ``index``, independent between clips and between seeds."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])


def _write_shard(path: Path, indices: range, seed: int, size: int, frames: int, fps: float) -> None:
    from ipa_core.synthetic.render import render_clip

    clips = [
        render_clip(PERFORMERS[index % len(PERFORMERS)], seed=clip_seed(seed, index), size=size, frames=frames, fps=fps)
        for index in indices
    ]
    partial = path.with_suffix(".partial")
    safetensors.numpy.save_file(
        {
            "frames": np.stack([clip.frames for clip in clips]),
            "keypoints": np.stack([clip.keypoints for clip in clips]),
            "confidence": np.stack([clip.confidence for clip in clips]),
            "hand_mask": np.stack([clip.hand_mask for clip in clips]).astype(np.uint8),
            "performer": np.array([index % len(PERFORMERS) for index in indices]),
        },
        partial,
    )
    partial.replace(path)
