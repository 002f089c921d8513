"""Reviews as files: CSV, and Label Studio's tasks and exports.

`label_studio/` holds exports of Label Studio 1.23.2, cut down. Anna (user 1) and Eva (user 3) answered there; Eva
changed Anna's answer to the first candidate and skipped the second once. `earlier.*` come from a project whose tasks an
earlier version of `ipa review export` wrote: Carl's review was imported there as an annotation of Anna's, who changed
only the second one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.review.exchange import export_reviews, import_reviews
from flows.review.label_studio import files, write_files
from flows.review.pictures import Pictures
from ipa_core.config import ConfigError
from storage import Store
from storage.reviews import Review, Reviews
from tests.flows.test_review import AT, queue_of, say

RECORDED = Path(__file__).with_name("label_studio")
FIRST = "3369c237162fe6e263fc33993d94604455a2ee456068e9bc791e0e568777ddbd"
SECOND = "80e062a9594c3c9734560b1459c3859e782e050ebd829bb7a22d52ccb5941735"


def read(tmp_path: Path, name: str) -> set[tuple[str, str, str | None, str]]:
    """Import a recorded export into an empty store."""
    store = Store(tmp_path / "store")
    import_reviews(store, RECORDED / name, "somebody", AT)
    histories = Reviews(store.address).histories().values()
    return {(one.candidate, one.by, one.verdict, one.at) for history in histories for one in history}


def at(time: str) -> str:
    return f"2026-11-29T{time}+00:00"


def test_an_export_names_people_by_number(tmp_path: Path) -> None:
    assert read(tmp_path, "export.json") == {
        (FIRST, "Label Studio user 3", "reject", at("01:18:26.584325")),
        (SECOND, "Label Studio user 1", "unsure", at("01:18:25.387395")),
        (SECOND, "Label Studio user 3", "reject", at("01:18:25.660544")),
    }


def test_a_snapshot_names_people_by_address(tmp_path: Path) -> None:
    assert read(tmp_path, "snapshot.json") == {
        (FIRST, "eva@example.org", "reject", at("01:18:26.584325")),
        (SECOND, "anna@example.org", "unsure", at("01:18:25.387395")),
        (SECOND, "eva@example.org", "reject", at("01:18:25.660544")),
    }


def test_a_table_of_label_studio_has_its_own_names_and_times(tmp_path: Path) -> None:
    """It does not tell that Eva changed Anna's answer."""
    assert read(tmp_path, "export.csv") == {
        (FIRST, "Label Studio user 1", "reject", at("01:18:26.584325")),
        (SECOND, "Label Studio user 1", "unsure", at("01:18:25.387395")),
        (SECOND, "Label Studio user 3", "reject", at("01:18:25.660544")),
    }


@pytest.mark.parametrize("name", ["earlier.json", "earlier.csv"])
def test_an_annotation_that_nobody_touched_is_no_review(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, name) == {("1" * 64, "Label Studio user 1", "reject", at("01:15:55.965991"))}


def test_a_later_review_here_stands_against_an_earlier_one_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    Reviews(store.address).add(Review(candidate=FIRST, verdict="accept", by="anna", at=at("02:00:00.000000")))
    import_reviews(store, RECORDED / "export.json", "somebody", AT)
    assert [review.verdict for review in Reviews(store.address).history(FIRST)] == ["reject", "accept"]


def test_a_task_shows_videos_and_hands_and_preselects_nothing(folder: Path, tmp_path: Path) -> None:
    store, queue = Store(folder / "store"), queue_of(folder)
    say(folder, queue.candidates[0].candidate.video, "accept")
    export_reviews(store, queue, tmp_path / "tasks.json", "shown")
    task = json.loads((tmp_path / "tasks.json").read_text())[0]
    assert task.keys() == {"data"}
    assert task["data"]["reviews"] == [{"verdict": "accept", "by": "anna", "at": AT}]
    names = {f"/data/local-files/?d=shown/{name}" for name in files(queue.candidates[0]).values()}
    assert {task["data"][field] for field in ("video", "driving", "hands", "driving_hands")} == names


def test_the_files_of_a_task_are_written_under_its_names(folder: Path, tmp_path: Path) -> None:
    store, one = Store(folder / "store"), queue_of(folder).candidates[0]
    write_files(store, Pictures(store), one, tmp_path / "shown")
    assert {path.name for path in (tmp_path / "shown").iterdir()} == set(files(one).values())


def test_each_person_is_a_line_of_the_table(folder: Path, tmp_path: Path) -> None:
    store, queue = Store(folder / "store"), queue_of(folder)
    for by, answer in (("anna", "accept"), ("ben", "unsure")):
        say(folder, queue.candidates[0].candidate.video, answer, by=by)  # type: ignore[arg-type]
    assert export_reviews(store, queue, tmp_path / "a.csv") == 1
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert len(lines) == 1 + len(queue.candidates) + 1
    assert [line.split(",")[1:3] for line in lines[1:3]] == [["accept", "anna"], ["unsure", "ben"]]


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_what_is_exported_is_imported_into_another_store(folder: Path, tmp_path: Path, suffix: str) -> None:
    store, queue = Store(folder / "store"), queue_of(folder)
    for one, verdict in zip(queue.candidates, ("accept", "reject"), strict=False):
        say(folder, one.candidate.video, verdict)  # type: ignore[arg-type]
    path = tmp_path / f"decisions{suffix}"
    assert export_reviews(store, queue, path) == 2
    other = Store(tmp_path / "other")
    assert import_reviews(other, path, "somebody", AT) == (2, 2)
    assert Reviews(other.address).histories() == Reviews(store.address).histories()


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_importing_the_same_file_again_adds_nothing(folder: Path, tmp_path: Path, suffix: str) -> None:
    store, queue = Store(folder / "store"), queue_of(folder)
    say(folder, queue.candidates[0].candidate.video, "accept")
    export_reviews(store, queue, tmp_path / f"decisions{suffix}")
    assert import_reviews(store, tmp_path / f"decisions{suffix}", "somebody", AT) == (1, 0)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "a.csv",
            "candidate,verdict\nxy,accept\n",
            "line 2: a candidate is told by the 64 hex digits of its video, got 'xy'",
        ),
        ("a.csv", f"candidate,verdict\n{'ab' * 32},maybe\n", "the verdict is accept, reject or unsure, got 'maybe'"),
        ("a.csv", f"candidate,verdict,at\n{'ab' * 32},accept,today\n", "the time is ISO 8601, got 'today'"),
        ("a.csv", "name,score\n", "it needs the columns candidate and verdict"),
        ("a.csv", f"candidate,verdict,at\n{'ab' * 32},accept,0001-01-01T00:00:00+09:00\n", "the time is ISO 8601"),
        ("a.csv", 'candidate,verdict\n"' + "a" * 200_000, "is no table: field larger than field limit"),
        ("a.json", '[{"data": {}, "annotations": 3}]', "task 1 is no task of ours"),
        (
            "a.json",
            json.dumps([{"data": {"candidate": "ab" * 32, "reviews": [{"verdict": "accept", "by": 5, "at": AT}]}}]),
            "task 1: a person is told by a name, got '5'",
        ),
        (
            "a.json",
            json.dumps([{"data": {"candidate": "ab" * 32, "reviews": [{"verdict": "accept", "by": "a", "at": 5}]}}]),
            "task 1: the time is ISO 8601, got '5'",
        ),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.json", "{}", "is no list of Label Studio tasks"),
        ("a.json", '[{"data": {}}]', "task 1 is no task of ours"),
        ("a.txt", "", "the suffix says the format"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        import_reviews(Store(tmp_path / "store"), tmp_path / name, "anna", AT)


@pytest.mark.parametrize("sign", [";", "\t", ","])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path: Path, sign: str, encoding: str) -> None:
    rows = (["candidate", "verdict", "by"], ["ab" * 32, "accept", "Jürgen"])
    (tmp_path / "a.csv").write_bytes("".join(sign.join(row) + "\r\n" for row in rows).encode(encoding))
    import_reviews(Store(tmp_path / "store"), tmp_path / "a.csv", "somebody", AT)
    [review] = Reviews(tmp_path / "store").history("ab" * 32)
    assert (review.verdict, review.by) == ("accept", "Jürgen")


def test_a_bad_line_adds_nothing_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"candidate,verdict\n{'ab' * 32},accept\n{'cd' * 32},maybe\n")
    with pytest.raises(ConfigError):
        import_reviews(Store(tmp_path / "store"), tmp_path / "a.csv", "anna", AT)
    assert Reviews(tmp_path / "store").histories() == {}
