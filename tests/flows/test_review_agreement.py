"""Cohen's kappa, and the pairs of reviewers it is computed for."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.review.agreement import Agreement, agreements, kappa
from ipa_core.records import Answer
from storage.reviews import Reviews
from tests.flows.test_review import queue_of, say


def table(both: int, first: int, second: int, neither: int) -> list[tuple[str, str]]:
    """The pairs of a two by two table."""
    cells = {("accept", "accept"): both, ("accept", "reject"): first, ("reject", "accept"): second,
             ("reject", "reject"): neither}  # fmt: skip
    return [pair for pair, count in cells.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (table(20, 5, 10, 15), 0.4),  # The usual example: 0.7 observed, 0.5 expected.
        (table(3, 0, 0, 4), 1.0),
        (table(0, 2, 2, 0), -1.0),
        (table(1, 1, 1, 1), 0.0),
        (table(5, 0, 0, 0), None),
        (table(0, 5, 0, 0), 0.0),
    ],
)
def test_kappa_is_agreement_beyond_chance(pairs: list[tuple[str, str]], expected: float | None) -> None:
    assert kappa(pairs) == (None if expected is None else pytest.approx(expected))


def test_kappa_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one thing"):
        kappa([])


def test_pairs_are_those_with_common_decisions(folder: Path) -> None:
    queue = queue_of(folder)
    said: tuple[dict[str, Answer], ...] = (
        {"anna": "accept", "ben": "accept", "eva": "unsure"},
        {"anna": "reject", "ben": "accept"},
        {"eva": "reject"},
    )
    for one, answers in zip(queue.candidates, said, strict=False):
        for by, answer in answers.items():
            say(folder, one.candidate.video, answer, by=by)
    found = agreements(queue, Reviews(folder / "store").histories())
    assert found == [Agreement("anna", "ben", common=2, agreed=1, kappa=0.0)]
