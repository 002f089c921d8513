"""Encodes rendered clips and their control drawings as latents, on which the flow model trains."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ipa_core.people.dataset import Progress, RenderedSet, load_shards
from ipa_core.pretraining.codec import LinearCodec, hand_share, to_video
from ipa_core.pretraining.config import FlowTrainingConfig
from ipa_core.pretraining.control import HandDetail, as_detected, draw_control


@dataclass(frozen=True, eq=False)
class EncodedSet:
    """N clips, in half precision.

    clean: ``[N, z, T, h, w]``. controls: ``[N, 2, z, T, h, w]``, first with the palms only, then with all fingers or no
    hands. hands: ``[N, T, h, w]``, share of hand pixels per latent. person: int64 ``[N]``.
    """

    clean: Tensor
    controls: Tensor
    hands: Tensor
    person: Tensor

    def to(self, device: str) -> EncodedSet:
        return EncodedSet(*(getattr(self, field.name).to(device) for field in fields(self)))


def encode_shards(
    shards: list[Path],
    folder: Path,
    codec: LinearCodec,
    config: FlowTrainingConfig,
    *,
    seed: int,
    processes: int = 1,
    progress: Progress | None = None,
) -> EncodedSet:
    """Encode every shard into ``folder`` (existing files are kept) and read the result into memory."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / shard.name for shard in shards]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if missing:
        with ProcessPoolExecutor(min(processes, len(missing)), mp_context=get_context("spawn")) as pool:
            written = [
                pool.submit(_write_encoded, shards[number], paths[number], codec, config, [seed, number])
                for number in missing
            ]
            for number, part in enumerate(as_completed(written), len(paths) - len(missing) + 1):
                part.result()
                if progress:
                    progress(f"encoded {number} of {len(paths)} shards", number / len(paths))
    parts = [safetensors.torch.load_file(path) for path in paths]
    return EncodedSet(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def _write_encoded(shard: Path, path: Path, codec: LinearCodec, config: FlowTrainingConfig, seed: list[int]) -> None:
    torch.set_num_threads(1)  # Every core has a process of its own.
    partial = path.with_suffix(".partial")
    safetensors.torch.save_file(_encode(load_shards([shard]), codec, config, np.random.default_rng(seed)), partial)
    partial.replace(path)


def _encode(
    clips: RenderedSet, codec: LinearCodec, config: FlowTrainingConfig, rng: np.random.Generator
) -> dict[str, Tensor]:
    full_share = 1 - config.palm_share - config.none_share
    controls = []
    for index in range(len(clips)):
        points, sure = as_detected(clips.keypoints[index], clips.confidence[index], rng, config.jitter)
        fingers = rng.uniform() * (1 - config.palm_share) < full_share
        details: tuple[HandDetail, HandDetail] = ("palm", "full" if fingers else "none")
        drawings = [draw_control(points, sure, clips.frames.shape[2], detail) for detail in details]
        controls.append(codec.encode(to_video(np.stack(drawings))).half())
    return {
        "clean": codec.encode(to_video(clips.frames)).half().contiguous(),
        "controls": torch.stack(controls).contiguous(),
        "hands": torch.from_numpy(hand_share(clips.hand_mask)).half(),
        "person": torch.from_numpy(clips.person),
    }
