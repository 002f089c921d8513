"""The reviews of one reviewer. It knows nothing of the web: the page's server and its tests call it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.review.queue import Queue, Reviewable
from ipa_core.records import Answer
from storage import Store
from storage.reviews import Review, Reviews, opinions, verdict_of


@dataclass(frozen=True)
class Progress:
    """Numbers of the queue's videos."""

    accepted: int
    rejected: int
    unsure: int
    """Reviewed, but without a verdict: unsure, or a tie."""


class Session:
    """Reviews of a queue's candidates. The store gets each at once. Several threads may call it.

    In a blind session the reviewer judges alone: of a candidate without an answer of theirs, the page hides all that
    others and the pipeline think. Otherwise reviewers share the work, and a candidate that somebody reviewed is done.
    """

    def __init__(self, store: Store, queue: Queue, by: str, blind: bool = False) -> None:
        self.store = store
        self.queue = queue
        self.by = by
        self.blind = blind
        self._reviews = Reviews(store.address)
        self._lock = threading.Lock()
        self._histories = self._reviews.histories()

    def refresh(self) -> None:
        """Read the reviews that others have made meanwhile."""
        with self._lock:
            self._histories = self._reviews.histories()

    def histories(self) -> dict[str, list[Review]]:
        """Return the reviews of each candidate that has any."""
        with self._lock:
            return dict(self._histories)

    def history(self, one: Reviewable) -> Sequence[Review]:
        """Return all reviews of a candidate in the order of their times."""
        with self._lock:
            return tuple(self._histories.get(one.candidate.video, ()))

    def opinions(self, one: Reviewable) -> list[Review]:
        """Return the reviews that people stand by, one of each."""
        return opinions(self.history(one), "any" if self.blind else self.queue.rule)

    def answer(self, one: Reviewable) -> Answer | None:
        """Return the answer that stands, None if there is none: in a blind session the reviewer's own, otherwise that
        of the run's rule, and ``unsure`` where the reviews make no verdict."""
        said = self.opinions(one)
        if self.blind:
            return next((review.verdict for review in said if review.by == self.by), None)
        return (verdict_of(self.history(one), self.queue.rule) or "unsure") if said else None

    def hides(self, one: Reviewable) -> bool:
        """Whether score, decision and reviews of others are hidden."""
        return self.blind and self.answer(one) is None

    def decide(self, candidate: str, answer: Answer | None) -> Review:
        """Keep a review of one of the queue's candidates. The answer None takes the earlier one back."""
        review = Review(candidate=candidate, verdict=answer, by=self.by, at=now())
        with self._lock:
            self._reviews.add(review)
            self._histories.setdefault(candidate, []).append(review)
        return review

    def progress(self) -> Progress:
        queue, known = self.queue, self.histories()
        said = [self.answer(queue.candidates[index]) for video, index in queue.positions.items() if video in known]
        return Progress(said.count("accept"), said.count("reject"), said.count("unsure"))


def now() -> str:
    """Return the time in the format of reviews."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
