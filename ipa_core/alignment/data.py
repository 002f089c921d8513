"""Read training samples from WebDataset shards.

A sample of a shard is five files: ``json`` (its :class:`PreferenceSample`), ``latents.safetensors``,
``conditioning.safetensors``, ``pose.safetensors`` (the driving pose) and ``mp4`` (the candidate). A sixth file,
``driving.mp4``, is there when the driving clip is trained on.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

from ipa_core.alignment.batch import Example
from ipa_core.alignment.visits import Label, label_of
from ipa_core.config import AlignmentConfig
from ipa_core.masks import hand_mask, latent_mask
from ipa_core.models import AnimationModel
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.latents import latents_from_bytes
from ipa_core.records import Digest, PoseSequence, PreferenceSample
from ipa_core.video import decode_video

_FILES: Final = ("json", "latents.safetensors", "conditioning.safetensors", "pose.safetensors", "mp4")


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """A preferred candidate and the inputs from which it was generated.

    key: key of the sample in its shard; digest: digest of the candidate's latents.
    latents: float32 ``[C, R + T', h, w]``, the final latents as sampled, normalised.
    video: the candidate as mp4; driving: the driving clip as mp4, when it is trained on.
    """

    key: str
    digest: Digest
    latents: Tensor
    conditioning: Conditioning
    pose: PoseSequence
    video: bytes
    driving: bytes | None = None
    group: Digest = ""
    """Digest of the conditioning, for methods that learn from losers."""
    seed: int | None = None
    """Seed of the noise that it was generated from, for ``noise: own``."""


@dataclass(frozen=True)
class _Location:
    """The byte range of a sample in its shard, from the first tar header to the end of the last file's blocks."""

    shard: Path
    start: int
    end: int
    digest: Digest
    label: Label


class ShardSamples:
    """The samples of local shards. Opening reads the tar headers and the JSON files. Indexing reads one sample."""

    def __init__(self, shards: Sequence[Path]) -> None:
        self._locations = [location for shard in shards for location in _index(shard)]
        self.digests: Sequence[Digest] = [location.digest for location in self._locations]
        self.labels: Sequence[Label] = [location.label for location in self._locations]

    def __len__(self) -> int:
        return len(self._locations)

    def __getitem__(self, index: int) -> TrainingSample:
        location = self._locations[index]
        with location.shard.open("rb") as file:
            file.seek(location.start)
            part = io.BytesIO(file.read(location.end - location.start))
        [files] = group_by_keys(tar_file_expander([{"url": str(location.shard), "stream": part}]))
        record = PreferenceSample.model_validate_json(files["json"])
        return TrainingSample(
            key=record.key,
            digest=record.latents,
            latents=latents_from_bytes(files["latents.safetensors"]),
            conditioning=Conditioning.from_bytes(files["conditioning.safetensors"]),
            pose=PoseSequence.from_bytes(files["pose.safetensors"]),
            video=files["mp4"],
            driving=files.get("driving.mp4"),
            group=record.conditioning,
            seed=record.seed,
        )


def prepare(sample: TrainingSample, model: AnimationModel, config: AlignmentConfig) -> Example:
    """Make an example of a sample, on the CPU. Raises ``ValueError`` when the driving clip to train on is missing."""
    reference = sample.conditioning.reference_latents[0].float().cpu()
    match config.latents:
        case "sampled":
            video = sample.latents[:, reference.shape[1] :]
        case "reencoded":
            video = model.encode_video(decode_video(sample.video))[0].float().cpu()
        case "driving":
            if sample.driving is None:
                raise ValueError(f"sample {sample.key} lacks driving.mp4, which alignment.latents: driving trains on")
            video = model.encode_video(decode_video(sample.driving))[0].float().cpu()
    _, frames, height, width = video.shape
    return Example(
        key=sample.key,
        digest=sample.group if config.learns_from_losers else sample.digest,
        own_noise=sample.seed if config.noise == "own" else None,
        # The encoded reference image stands in front, as in the model's own training. The sampled latents hold the
        # model's imitation of it. The pipeline drops the imitation before decoding, so nobody has found it good.
        clean=torch.cat([reference, video], dim=1),
        hand_mask=torch.from_numpy(latent_mask(hand_mask(sample.pose), frames, height, width, config.mask_time)),
        streams={name: stream[0] for name, stream in sample.conditioning.streams().items()},
        reference_frames=reference.shape[1],
    )


def _index(shard: Path) -> list[_Location]:
    """Return the samples of a shard in its order. Raises ``ValueError`` when a sample lacks a file."""
    with tarfile.open(shard) as tar:
        files = [member for member in tar if member.isreg()]
        return [
            _location(tar, shard, key, list(group)) for key, group in groupby(files, lambda member: _split(member)[0])
        ]


def _split(member: tarfile.TarInfo) -> tuple[str, str]:
    """Return the sample's key and the kind of the file, as webdataset separates them."""
    return base_plus_ext(member.name)


def _location(tar: tarfile.TarFile, shard: Path, key: str, members: Sequence[tarfile.TarInfo]) -> _Location:
    files = {_split(member)[1]: member for member in members}
    missing = [kind for kind in _FILES if kind not in files]
    if missing:
        raise ValueError(f"sample {key} of {shard.name} lacks {', '.join(missing)}")
    record = tar.extractfile(files["json"])
    assert record is not None  # _index passes regular files only.
    sample = PreferenceSample.model_validate_json(record.read())
    last = members[-1]
    return _Location(
        shard=shard,
        start=members[0].offset,
        end=last.offset_data + -(-last.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE,
        digest=sample.latents,
        label=label_of(sample),
    )
