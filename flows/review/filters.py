"""Chooses candidates of the queue for the list."""

from __future__ import annotations

from typing import Final, Literal

from flows.review.queue import Reviewable
from flows.review.session import Session

Show = Literal["all", "undecided", "near", "unscorable", "unsure", "differ"]
NEAR: Final = 0.05
"""Largest distance of a score from the threshold that counts as near."""


def chosen(session: Session, show: Show = "all", by: str = "", text: str = "") -> list[int]:
    """Return the indices of the candidates that meet all conditions, in the queue's order.

    ``by``: this person reviewed it. ``text``: it is part of the name (`dance.mp4 #002`), in any case.
    """
    found = enumerate(session.queue.candidates)
    return [index for index, one in found if _meets(session, one, show, by, text.lower())]


def _meets(session: Session, one: Reviewable, show: Show, by: str, text: str) -> bool:
    # In a blind session a filter must not tell the opinions that are hidden.
    seen = {} if session.hides(one) else {review.by: review.verdict for review in session.opinions(one)}
    if text not in one.name.lower() or (by and by not in seen):
        return False
    score = one.score.score
    match show:
        case "all":
            return True
        case "undecided":
            return session.answer(one) is None
        case "near":
            return score is not None and abs(score - session.queue.threshold) <= NEAR
        case "unscorable":
            return score is None
        case "unsure":
            return "unsure" in seen.values()
        case "differ":
            return {"accept", "reject"} <= set(seen.values())
