"""Reviews of candidates by people: each says the person, the time, and accept, reject, unsure or taken back.

The reviews are small files, `reviews/ab/<digest of the candidate's video>-000001.json`, ... Each file is written once
and never changed. Two people may decide at once: both reviews are kept. Reviews count in the order of their times. An
earlier review that is imported later does not take the place of a later one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from ipa_core.records import Answer, Digest, Record, ReviewRule, Verdict
from storage.digest import is_digest
from storage.log import NumberedLog

_NAME = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})-(\d{6})\.json")


class Review(Record):
    """A review: the answer of one person about one candidate."""

    candidate: Digest
    """Digest of its video. The same bytes in another run are the same candidate."""
    verdict: Answer | None
    """``None`` takes back the person's earlier reviews, and under the rule `latest` those of everybody."""
    by: str
    at: str
    """UTC, ISO 8601 with microseconds. The text sorts by time."""


class Reviews:
    """The reviews at ``<address>/reviews``. ``address`` belongs to a store: a path or an fsspec URL.

    Each file is read once.
    """

    def __init__(self, address: str | Path) -> None:
        remedy = "bring it back from a copy, or let `ipa store repair` forget it"
        self._log = NumberedLog(address, "reviews", "review", TypeAdapter(Review), remedy)
        self._read: dict[str, Review] = {}

    def histories(self) -> dict[Digest, list[Review]]:
        """All reviews of each candidate that has any, in the order of their times. Raises :class:`StoreError` for a
        damaged file."""
        names = set(self._log.names())
        self._load(sorted(name for name in names - self._read.keys() if _NAME.fullmatch(name)))
        found: dict[Digest, list[Review]] = {}
        for _, review in sorted(self._read.items(), key=lambda entry: (entry[1].at, entry[0])):
            found.setdefault(review.candidate, []).append(review)
        return found

    def history(self, candidate: Digest) -> list[Review]:
        """All reviews of a candidate in the order of their times. Raises :class:`StoreError`."""
        names = (name for name in self._log.names(candidate[:2]) if _NAME.fullmatch(name))
        wanted = [name for name in names if name.startswith(_series(candidate))]
        self._load(name for name in wanted if name not in self._read)
        return sorted((self._read[name] for name in wanted if name in self._read), key=lambda review: review.at)

    def add(self, review: Review) -> None:
        """Keep a review durably. Raises ``ValueError`` where its candidate is no digest, and :class:`StoreError`."""
        if not is_digest(review.candidate):
            raise ValueError(f"a candidate is told by 64 lower-case hex digits, got {review.candidate!r}")
        number = len(self.history(review.candidate)) + 1
        self._read[self._log.append(_series(review.candidate), number, review)] = review

    def _load(self, names: Iterable[str]) -> None:
        self._read |= dict(self._log.read(names))


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


def _series(candidate: Digest) -> str:
    return f"{candidate[:2]}/{candidate}-"
