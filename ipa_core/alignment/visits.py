"""In which order a training run visits its samples: a function of (seed, samples, epoch). Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

from ipa_core.config import AlignmentConfig
from ipa_core.records import Digest


@dataclass(frozen=True)
class Visit:
    """One use of a sample: ``index`` into the samples, and which pass over them it belongs to, from 0."""

    index: int
    epoch: int


def epoch_order(seed: int, epoch: int, digests: Sequence[Digest]) -> list[int]:
    """The order in which an epoch visits the samples: sorted by a hash, so a new sample moves no other's turn."""
    return sorted(
        range(len(digests)), key=lambda index: blake3(f"order/{seed}/{epoch}/{digests[index]}".encode()).digest()
    )


def visits(seed: int, digests: Sequence[Digest], start: int, count: int) -> list[Visit]:
    """``count`` visits from number ``start`` on of the endless walk over the samples, epoch after epoch."""
    found: list[Visit] = []
    while len(found) < count:
        epoch, position = divmod(start + len(found), len(digests))
        rest = epoch_order(seed, epoch, digests)[position : position + count - len(found)]
        found += [Visit(index, epoch) for index in rest]
    return found


def epochs_of_run(config: AlignmentConfig, digests: Sequence[Digest]) -> list[int]:
    """How many epochs of each sample a run draws from: 0 to before this. By the samples' places."""
    whole, rest = divmod(config.steps * config.batch_size, len(digests))
    last = set(epoch_order(config.seed, whole, digests)[:rest])
    return [whole + (index in last) for index in range(len(digests))]
