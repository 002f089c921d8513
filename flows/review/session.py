"""The reviews of one reviewer. It knows nothing of the web: the page's server and its tests call it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.review.queue import Queue, Reviewable, waiting
from ipa_core.records import Verdict
from storage import Store
from storage.reviews import Review, Reviews, verdicts


@dataclass(frozen=True)
class Progress:
    """The progress of a run's reviewers."""

    accepted: int
    rejected: int
    next: int | None
    """Index of the next candidate without a verdict; None if there is none."""


class Session:
    """Reviews of a queue's candidates. The store gets each at once. Several threads may call it."""

    def __init__(self, store: Store, queue: Queue, by: str) -> None:
        self.store = store
        self.queue = queue
        self.by = by
        self._reviews = Reviews(store.address)
        self._lock = threading.Lock()
        self._standing = self._reviews.standing()

    def refresh(self) -> None:
        """Read the reviews that others have made meanwhile."""
        with self._lock:
            self._standing = self._reviews.standing()

    def review(self, one: Reviewable) -> Review | None:
        """Return the review that stands; None if there is none."""
        with self._lock:
            found = self._standing.get(one.candidate.video)
        return found if found is not None and found.verdict is not None else None

    def decide(self, candidate: str, verdict: Verdict | None) -> Review:
        """Keep a review of one of the queue's candidates. The verdict None takes back the review that stands."""
        review = Review(candidate=candidate, verdict=verdict, by=self.by, at=now())
        with self._lock:
            self._reviews.add(review)
            self._standing[candidate] = review
        return review

    def progress(self, after: int = -1) -> Progress:
        with self._lock:
            said = verdicts(self._standing)
        ours = [said[video] for video in self.queue.positions if video in said]
        following = next(waiting(self.queue, set(said), after), None)
        return Progress(ours.count("accept"), ours.count("reject"), following)


def now() -> str:
    """Return the time in the format of reviews."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
