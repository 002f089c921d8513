"""Preferences between two videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import StoreError
from storage.digest import digest_bytes
from storage.preferences import Preference, Preferences, Preferred, pair_of, stood_by

ONE, OTHER = digest_bytes(b"one"), digest_bytes(b"other")


def said(answer: Preferred | None, second: int = 0, by: str = "anna") -> Preference:
    return Preference(left=ONE, right=OTHER, answer=answer, by=by, at=f"2026-01-01T00:00:{second:02d}.000000+00:00")


def test_a_pair_has_one_history_whichever_side_was_left(tmp_path: Path) -> None:
    swapped = said("left", 1, by="ben").model_copy(update={"left": OTHER, "right": ONE})
    Preferences(tmp_path).add(said("left"))
    Preferences(tmp_path).add(swapped)
    assert Preferences(tmp_path).history(pair_of(OTHER, ONE)) == [said("left"), swapped]
    assert [one.video for one in stood_by([said("left"), swapped])] == [ONE, OTHER]


def test_the_latest_of_a_person_stands() -> None:
    assert stood_by([said("left"), said("same", 1, by="ben"), said("right", 2)]) == [
        said("right", 2),
        said("same", 1, by="ben"),
    ]


def test_what_was_taken_back_does_not_count() -> None:
    assert stood_by([said("left"), said(None, 1)]) == []


def test_the_seed_stays(tmp_path: Path) -> None:
    first = Preferences(tmp_path).seed()
    assert Preferences(tmp_path).seed() == first
    assert Preferences(tmp_path / "another").seed() != first


def test_a_damaged_seed_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "preferences").mkdir()
    (tmp_path / "preferences" / "seed").write_text("no")
    with pytest.raises(StoreError, match=r"seed is damaged; `ipa store repair` forgets it$"):
        Preferences(tmp_path).seed()
