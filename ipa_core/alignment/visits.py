"""The order in which a training run visits its samples: a function of (seed, samples, epoch). Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

from ipa_core.config import AlignmentConfig
from ipa_core.records import Digest


@dataclass(frozen=True)
class Visit:
    """One use of a sample: the sample's ``index``, and the ``epoch``, that is the pass over all samples, from 0."""

    index: int
    epoch: int


def epoch_order(seed: int, epoch: int, digests: Sequence[Digest]) -> list[int]:
    """Return an epoch's order of the samples. A hash sorts them, so a new sample leaves the others in their order."""
    return sorted(
        range(len(digests)), key=lambda index: blake3(f"order/{seed}/{epoch}/{digests[index]}".encode()).digest()
    )


def visits(seed: int, digests: Sequence[Digest], start: int, count: int) -> list[Visit]:
    """Return ``count`` visits from number ``start`` on of the endless walk over the samples, epoch after epoch."""
    found: list[Visit] = []
    while len(found) < count:
        epoch, position = divmod(start + len(found), len(digests))
        rest = epoch_order(seed, epoch, digests)[position : position + count - len(found)]
        found += [Visit(index, epoch) for index in rest]
    return found


def epochs_of_run(config: AlignmentConfig, digests: Sequence[Digest]) -> list[int]:
    """Return for each sample, by its index, the number of epochs, from epoch 0 on, in which a run visits it."""
    whole, rest = divmod(config.steps * config.batch_size, len(digests))
    last = set(epoch_order(config.seed, whole, digests)[:rest])
    return [whole + (index in last) for index in range(len(digests))]
