"""What people decided about candidates: who, when, and accept, reject or nothing any more.

Small files at `reviews/ab/<candidate's video digest>-000001.json`, ..., each written once and never changed. A file is
created only where none of its number is, so two people who decide at once both are kept. Of a candidate the review with
the latest time stands: one that is imported later, but was made earlier, does not take its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ipa_core.records import Digest, Record, Verdict
from storage.digest import is_digest
from storage.folders import StoreError, open_folder
from storage.sealed import seal, unseal

_NAME = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})-(\d{6})\.json")


class Review(Record):
    """One person's word on one candidate."""

    candidate: Digest
    """Of its video: the same bytes in another run are the same candidate."""
    verdict: Verdict | None
    """``None`` takes back what was said before: the rule decides again."""
    by: str
    at: str
    """UTC, ISO 8601 with microseconds, so that the text sorts by time."""


class Reviews:
    """The reviews at ``<address>/reviews``; ``address`` is a store's, a path or an fsspec URL. A file is read once."""

    def __init__(self, address: str | Path) -> None:
        self._folder = open_folder(address)
        self._read: dict[str, Review] = {}

    def standing(self) -> dict[Digest, Review]:
        """The review that stands, by candidate; also where it takes an earlier one back. Raises :class:`StoreError`
        where one is damaged."""
        names = {name.removeprefix("reviews/") for name in self._folder.names("reviews")}
        self._load(sorted(name for name in names - self._read.keys() if _NAME.fullmatch(name)))
        found: dict[Digest, Review] = {}
        for _, review in sorted(self._read.items(), key=lambda entry: (entry[1].at, entry[0])):
            found[review.candidate] = review
        return found

    def history(self, candidate: Digest) -> list[Review]:
        """All reviews of a candidate, the one that stands last. Raises :class:`StoreError`."""
        prefix = f"{candidate[:2]}/{candidate}-"
        names = [name.removeprefix("reviews/") for name in self._folder.names(f"reviews/{candidate[:2]}")]
        wanted = sorted(name for name in names if name.startswith(prefix))
        self._load(name for name in wanted if name not in self._read)
        return sorted((self._read[name] for name in wanted if name in self._read), key=lambda review: review.at)

    def add(self, review: Review) -> None:
        """Keep a review, durably. Raises ``ValueError`` where its candidate is no digest, and :class:`StoreError`."""
        if not is_digest(review.candidate):
            raise ValueError(f"a candidate is told by 64 lower-case hex digits, got {review.candidate!r}")
        data = seal("review", review)
        number = len(self.history(review.candidate)) + 1
        while not self._folder.write(f"reviews/{_name(review.candidate, number)}", data, replace=False):
            number += 1
        self._read[_name(review.candidate, number)] = review

    def _load(self, names: Iterable[str]) -> None:
        for name, data in self._folder.read_many("reviews", names):
            self._read[name] = _open(name, data)


def verdicts(standing: Mapping[Digest, Review]) -> dict[Digest, Verdict]:
    """What the standing reviews say, without those that take one back."""
    return {candidate: review.verdict for candidate, review in standing.items() if review.verdict is not None}


def _name(candidate: Digest, number: int) -> str:
    return f"{candidate[:2]}/{candidate}-{number:06d}.json"


def _open(name: str, data: bytes) -> Review:
    try:
        return Review.model_validate(unseal("review", data))
    except ValueError:  # pydantic's too
        raise StoreError(f"reviews/{name} is damaged; bring it back from a copy, or remove it") from None
