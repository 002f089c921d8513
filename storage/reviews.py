"""Reviews of candidates by people: each says the person, the time, and accept, reject, unsure or taken back.

The reviews are small files, `reviews/ab/<digest of the candidate's video>-000001.json`, ... (see :class:`Histories`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from ipa_core.records import Answer, Digest, ReviewRule, Verdict
from storage.log import Histories, NumberedLog, Opinion


class Review(Opinion):
    """A review: the answer of one person about one candidate."""

    candidate: Digest
    """Digest of its video. The same bytes in another run are the same candidate."""
    verdict: Answer | None
    """``None`` takes back the person's earlier reviews, and under the rule `latest` those of everybody."""


class Reviews(Histories[Review]):
    """The reviews at ``<address>/reviews``, by candidate. ``address`` belongs to a store: a path or an fsspec URL."""

    def __init__(self, address: str | Path) -> None:
        remedy = "bring it back from a copy, or let `ipa store repair` forget it"
        log = NumberedLog(address, "reviews", "review", TypeAdapter(Review), remedy)
        super().__init__(log, lambda review: review.candidate)


def answers(history: Iterable[Review]) -> dict[str, Review]:
    """The latest review of each person in a candidate's history, by name. Without those that were taken back."""
    latest = {review.by: review for review in history}
    return {by: review for by, review in latest.items() if review.verdict is not None}


def opinions(history: Sequence[Review], rule: ReviewRule) -> list[Review]:
    """The reviews that people stand by, one of each. Under the rule `latest`, a review that was taken back leaves none
    of the earlier ones."""
    if rule == "latest" and history and history[-1].verdict is None:
        return []
    return list(answers(history).values())


def verdict_of(history: Sequence[Review], rule: ReviewRule) -> Verdict | None:
    """The verdict of a candidate's history; None where the rules of the selection decide.
    ``SelectionConfig.reviewers`` describes the rules."""
    counted = history[-1:] if rule == "latest" else answers(history).values()
    said = [review.verdict for review in counted]
    accepts, rejects = said.count("accept"), said.count("reject")
    if accepts + rejects == 0 or (rule == "majority" and accepts == rejects):
        return None
    if rule == "all":
        return "reject" if rejects else "accept"
    if rule == "majority":
        return "accept" if accepts > rejects else "reject"
    return "accept" if accepts else "reject"


def verdicts(histories: Mapping[Digest, Sequence[Review]], rule: ReviewRule = "latest") -> dict[Digest, Verdict]:
    """The verdict of each candidate that has one."""
    found = {candidate: verdict_of(history, rule) for candidate, history in histories.items()}
    return {candidate: verdict for candidate, verdict in found.items() if verdict is not None}
