"""How far reviewers agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from flows.review.queue import Queue
from ipa_core.records import Digest, Verdict
from storage.reviews import Review, answers


@dataclass(frozen=True)
class Agreement:
    """Two reviewers who decided about the same candidates."""

    first: str
    second: str
    common: int
    """Candidates that both accepted or rejected. ``unsure`` is no decision."""
    agreed: int
    kappa: float | None


def agreements(queue: Queue, histories: Mapping[Digest, Sequence[Review]]) -> list[Agreement]:
    """Return all pairs of reviewers with common candidates of a run, sorted by name. Their latest reviews count."""
    decided: dict[str, dict[Digest, Verdict]] = {}
    for video in queue.positions:
        for by, review in answers(histories.get(video, ())).items():
            if review.verdict in ("accept", "reject"):
                decided.setdefault(by, {})[video] = review.verdict
    found = []
    for first, second in combinations(sorted(decided), 2):
        common = decided[first].keys() & decided[second].keys()
        if common:
            pairs = [(decided[first][video], decided[second][video]) for video in common]
            found.append(Agreement(first, second, len(pairs), sum(one == other for one, other in pairs), kappa(pairs)))
    return found


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return Cohen's kappa of two people's labels for the same things: 1 is full agreement, 0 is as much as chance
    gives, at least -1. None where chance alone would agree always, because both gave everything one label.

    J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20 (1960),
    37-46: (observed - expected) / (1 - expected). Raises ``ValueError`` without a pair.
    """
    if not pairs:
        raise ValueError("kappa needs at least one thing that both people labelled")
    first, second = (Counter(side) for side in zip(*pairs, strict=True))
    count = len(pairs)
    observed = sum(one == other for one, other in pairs) * count
    expected = sum(
        first[label] * second[label] for label in first
    )  # Both times count squared: whole numbers are exact.
    return None if expected == count * count else (observed - expected) / (count * count - expected)
