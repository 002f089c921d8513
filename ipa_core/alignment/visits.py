"""The order in which a training run visits its samples: a function of (seed, samples, epoch). Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

from ipa_core.config import AlignmentConfig
from ipa_core.records import Digest, PreferenceSample


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


@dataclass(frozen=True)
class Label:
    """What a method that learns from losers knows about a sample.

    group: digest of the conditioning, which the candidates of one clip share, and from which their draws follow.
    kept, reward: see `records.PreferenceSample`.
    """

    group: Digest
    kept: bool
    reward: float


def label_of(sample: PreferenceSample) -> Label:
    """Return the label; a shard of kept candidates alone has only winners."""
    reward = 1.0 if sample.reward is None else sample.reward
    return Label(group=sample.conditioning, kept=sample.kept is not False, reward=reward)


def advantages(labels: Sequence[Label]) -> list[float]:
    """Return each sample's reward minus the mean reward of its group, in [-1, 1]."""
    groups: dict[Digest, list[float]] = {}
    for label in labels:
        groups.setdefault(label.group, []).append(label.reward)
    return [label.reward - sum(groups[label.group]) / len(groups[label.group]) for label in labels]


def visited_together(config: AlignmentConfig, labels: Sequence[Label], count: int) -> list[tuple[int, ...]]:
    """Return the indices of the samples that a visit takes at once: pairs of winner and loser, or single samples."""
    if config.method != "dpo":
        return [(index,) for index in range(count)]
    losers = {label.group: index for index, label in enumerate(labels) if not label.kept}
    return [(index, losers[label.group]) for index, label in enumerate(labels) if label.kept]


def visits_of_step(
    config: AlignmentConfig, digests: Sequence[Digest], together: Sequence[tuple[int, ...]], step: int
) -> list[Visit]:
    """Return the ``batch_size`` visits of a step, the members of a pair side by side and in the same epoch."""
    count = config.batch_size // len(together[0])
    firsts = [digests[members[0]] for members in together]
    found = visits(config.seed, firsts, step * count, count)
    return [Visit(index, visit.epoch) for visit in found for index in together[visit.index]]


def epochs_of_run(config: AlignmentConfig, digests: Sequence[Digest], labels: Sequence[Label] = ()) -> list[int]:
    """Return for each sample, by its index, the number of epochs, from epoch 0 on, in which a run visits it."""
    together = visited_together(config, labels, len(digests))
    firsts = [digests[members[0]] for members in together]
    whole, rest = divmod(config.steps * config.batch_size // len(together[0]), len(firsts))
    last = set(epoch_order(config.seed, whole, firsts)[:rest])
    epochs = [0] * len(digests)
    for number, members in enumerate(together):
        for index in members:
            epochs[index] = max(epochs[index], whole + (number in last))
    return epochs
