"""Small training samples, in memory and as shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from blake3 import blake3
from webdataset import TarWriter

from ipa_core.alignment.data import TrainingSample
from ipa_core.alignment.visits import Label
from ipa_core.keypoints import HANDS, WRISTS
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.latents import latents_to_bytes
from ipa_core.records import PoseSequence, PreferenceSample
from ipa_core.video import encode_video
from tests.tiny_model import FRAMES, HEIGHT, WIDTH


class Samples(list[TrainingSample]):
    """A list of samples as the trainer takes them."""

    @property
    def digests(self) -> Sequence[str]:
        return [sample.digest for sample in self]

    @property
    def labels(self) -> Sequence[Label]:
        """Two candidates of each clip, the first kept."""
        return [
            Label(group=self[index - index % 2].digest, kept=index % 2 == 0, reward=1.0 - index % 2)
            for index in range(len(self))
        ]


def make_samples(count: int) -> Samples:
    return Samples(make_sample(number) for number in range(count))


def make_sample(number: int, height: int = HEIGHT, width: int = WIDTH) -> TrainingSample:
    source = torch.Generator().manual_seed(number)
    latent_frames = 1 + (FRAMES - 1) // 4
    latents = torch.randn(16, 1 + latent_frames, height // 8, width // 8, generator=source)
    conditioning = Conditioning(
        shared={"control": torch.randn(1, 96, *latents.shape[1:], generator=source)},
        reference_latents=torch.randn(1, 16, 1, *latents.shape[2:], generator=source),
        guided={"prompt_embeds": torch.randn(1, 7, 32, generator=source)},
        unguided=None,
        frames=FRAMES,
        height=height,
        width=width,
    )
    pictures = torch.randint(0, 256, (FRAMES, height, width, 3), generator=source, dtype=torch.uint8)
    return TrainingSample(
        key=f"{number:016x}-000-{number:016x}",
        digest=blake3(latents_to_bytes(latents)).hexdigest(),
        latents=latents,
        conditioning=conditioning,
        pose=make_pose(number, height, width),
        video=encode_video(pictures.numpy(), fps=8),
    )


def make_pose(number: int, height: int, width: int) -> PoseSequence:
    """Two hands of 12 pixels, each standing still at its own place."""
    rng = np.random.default_rng(number)
    keypoints = np.zeros((FRAMES, 133, 2), np.float32)
    confidence = np.zeros((FRAMES, 133), np.float32)
    for side, points in HANDS.items():
        corner = rng.uniform(4, 40, 2)
        keypoints[:, points] = corner + rng.uniform(0, 12, (21, 2))
        keypoints[:, WRISTS[side]] = corner
        confidence[:, points] = confidence[:, WRISTS[side]] = 1
    return PoseSequence(keypoints, confidence, width, height, "model", "test")


def write_shards(folder: Path, samples: Sequence[TrainingSample], per_shard: int) -> list[Path]:
    shards = []
    for first in range(0, len(samples), per_shard):
        shards.append(folder / f"{len(shards):06d}.tar")
        with TarWriter(str(shards[-1]), encoder=False) as writer:
            for sample in samples[first : first + per_shard]:
                writer.write(shard_files(sample))
    return shards


def shard_files(sample: TrainingSample) -> dict[str, str | bytes]:
    conditioning, pose = sample.conditioning.to_bytes(), sample.pose.to_bytes()
    record = PreferenceSample(
        key=sample.key,
        clip_id=sample.key[:20],
        seed=int(sample.key[-16:], 16),
        score=0.9,
        prompt="a person dances",
        video=blake3(sample.video).hexdigest(),
        latents=sample.digest,
        conditioning=blake3(conditioning).hexdigest(),
        pose=blake3(pose).hexdigest(),
        candidate_action="0" * 64,
        score_action="1" * 64,
    )
    return {
        "__key__": sample.key,
        "json": record.model_dump_json().encode(),
        "latents.safetensors": latents_to_bytes(sample.latents),
        "conditioning.safetensors": conditioning,
        "pose.safetensors": pose,
        "mp4": sample.video,
    }
