"""Reviews of candidates by people: each says the person, the time, and accept, reject or taken back.

The reviews are small files, `reviews/ab/<digest of the candidate's video>-000001.json`, ... Each file is written once
and never changed. Two people may decide at once: both reviews are kept. The review with the latest time stands. An
earlier review that is imported later does not take its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import TypeAdapter

from ipa_core.records import Digest, Record, Verdict
from storage.digest import is_digest
from storage.log import NumberedLog

_NAME = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})-(\d{6})\.json")


class Review(Record):
    """A review: one person accepts or rejects one candidate."""

    candidate: Digest
    """Digest of its video. The same bytes in another run are the same candidate."""
    verdict: Verdict | None
    """``None`` takes back the earlier reviews. Then the rule decides again."""
    by: str
    at: str
    """UTC, ISO 8601 with microseconds. The text sorts by time."""


class Reviews:
    """The reviews at ``<address>/reviews``. ``address`` belongs to a store: a path or an fsspec URL.

    Each file is read once.
    """

    def __init__(self, address: str | Path) -> None:
        remedy = "bring it back from a copy, or remove it"
        self._log = NumberedLog(address, "reviews", "review", TypeAdapter(Review), remedy)
        self._read: dict[str, Review] = {}

    def standing(self) -> dict[Digest, Review]:
        """The review that stands, by candidate. It may be one that takes an earlier review back. Raises
        :class:`StoreError` for a damaged file."""
        names = set(self._log.names())
        self._load(sorted(name for name in names - self._read.keys() if _NAME.fullmatch(name)))
        found: dict[Digest, Review] = {}
        for _, review in sorted(self._read.items(), key=lambda entry: (entry[1].at, entry[0])):
            found[review.candidate] = review
        return found

    def history(self, candidate: Digest) -> list[Review]:
        """All reviews of a candidate in the order of their times. The last one stands. Raises :class:`StoreError`."""
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


def verdicts(standing: Mapping[Digest, Review]) -> dict[Digest, Verdict]:
    """The verdicts of the standing reviews. Reviews that take a verdict back are left out."""
    return {candidate: review.verdict for candidate, review in standing.items() if review.verdict is not None}


def _series(candidate: Digest) -> str:
    return f"{candidate[:2]}/{candidate}-"
