import errno
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ipa_core.records import Record
from storage import StoreError
from storage.digest import digest_bytes
from storage.log import NumberedLog, numbered

SPAWN = multiprocessing.get_context("spawn")


class Note(Record):
    text: str


def log(address) -> NumberedLog[Note]:
    return NumberedLog(address, "notes", "note", TypeAdapter(Note), "remove it")


def texts(address, below: str = "") -> list[str]:
    one = log(address)
    return [note.text for _, note in one.read(one.names(below))]


WRITERS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["a", "b"]), st.text(max_size=5)), max_size=12)


@settings(max_examples=30, deadline=None)
@given(writers=WRITERS)
def test_two_instances_that_append_in_turn_lose_nothing(tmp_path_factory, writers):
    folder = tmp_path_factory.mktemp("log")
    logs = log(folder), log(folder)
    for number, series, text in writers:
        logs[number].append(f"{series}/", 1, Note(text=text))
    for wanted in "ab":
        assert texts(folder, wanted) == [text for _, series, text in writers if series == wanted]


@settings(max_examples=30, deadline=None)
@given(writers=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 14)), max_size=12))
def test_a_number_is_given_once(tmp_path_factory, writers):
    """Of two instances that ask for the same number, the second is refused and the first entry stands."""
    folder = tmp_path_factory.mktemp("log")
    logs = log(folder), log(folder)
    first: dict[int, str] = {}
    for step, (writer, number) in enumerate(writers):
        created = logs[writer].create(number, Note(text=f"{writer} in step {step}"))
        assert created == (number not in first)
        first.setdefault(number, f"{writer} in step {step}")
    assert texts(folder) == [first[number] for number in sorted(first)]


def test_writers_at_once_lose_nothing(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log(tmp_path).append("", 1, Note(text=str(number))), range(40)))
    assert {note.text for note in log(tmp_path).read_whole()} == {str(number) for number in range(40)}


def without_links(patch):
    """The file system has no hard links, and between a look and what follows there is time for others."""
    exists = Path.exists

    def refused(self, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def looked(self):
        found = exists(self)
        time.sleep(0.002)
        return found

    patch.setattr(Path, "hardlink_to", refused)
    patch.setattr(Path, "exists", looked)


def test_writers_at_once_lose_nothing_without_hard_links(tmp_path, monkeypatch):
    without_links(monkeypatch)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log(tmp_path).append("", 1, Note(text=str(number))), range(40)))
    assert {note.text for note in log(tmp_path).read_whole()} == {str(number) for number in range(40)}


def append_without_links(address, number, meet):
    """In a process of its own."""
    without_links(pytest.MonkeyPatch())
    meet.wait(60)
    for turn in range(10):
        log(address).append("", 1, Note(text=f"{number} {turn}"))


@pytest.mark.slow
def test_processes_at_once_lose_nothing_without_hard_links(tmp_path):
    with SPAWN.Manager() as manager:
        meet = manager.Barrier(4)
        with ProcessPoolExecutor(4, mp_context=SPAWN) as pool:
            list(pool.map(append_without_links, [tmp_path] * 4, range(4), [meet] * 4))
    wanted = {f"{number} {turn}" for number in range(4) for turn in range(10)}
    assert {note.text for note in log(tmp_path).read_whole()} == wanted


def test_an_append_skips_taken_numbers_and_tells_the_name(address):
    assert log(address).append("a/x-", 1, Note(text="first")) == "a/x-000001.json"
    assert log(address).append("a/x-", 1, Note(text="second")) == "a/x-000002.json"
    assert log(address).append("a/x-", 4, Note(text="fourth")) == "a/x-000004.json"
    assert log(address).names("a") == ["a/x-000001.json", "a/x-000002.json", "a/x-000004.json"]


def test_a_whole_log_is_read_in_order(address):
    for number in range(1, 13):
        assert log(address).create(number, Note(text=str(number)))
    assert [note.text for note in log(address).read_whole()] == [str(number) for number in range(1, 13)]


def test_the_bytes_on_disk_stay_as_they_are(tmp_path):
    """A change here makes every registry and every review unreadable."""
    log(tmp_path).create(1, Note(text="Tänzer"))
    record = '{"text":"Tänzer"}'.encode()
    seal = b'{"blake3":"' + digest_bytes(record).encode() + b'","note":' + record + b"}"
    assert (tmp_path / "notes" / "000001.json").read_bytes() == seal


@pytest.mark.parametrize("missing", [1, 2])
def test_a_gap_is_an_error_that_names_the_file(tmp_path, missing):
    for number in (1, 2, 3):
        log(tmp_path).create(number, Note(text=str(number)))
    (tmp_path / "notes" / numbered(missing)).unlink()
    with pytest.raises(StoreError, match=rf"^notes/00000{missing}\.json is missing from the store; remove it$"):
        log(tmp_path).read_whole()


def sealed(record: object) -> bytes:
    data = json.dumps(record, separators=(",", ":")).encode()
    return b'{"note":' + data + b',"blake3":"' + digest_bytes(data).encode() + b'"}'


DAMAGED = {
    "empty": b"",
    "cut": sealed({"text": "yes"})[:-9],
    "changed": sealed({"text": "yes"}).replace(b"yes", b"no!"),
    "not UTF-8": b"\xff\xfe",
    "of another kind": sealed({"text": "yes"}).replace(b"note", b"event"),
    "a list": b"[]",
}


def test_a_record_of_another_form_is_told_from_a_damaged_one(tmp_path):
    log(tmp_path).create(1, Note(text="yes"))
    (tmp_path / "notes" / "000001.json").write_bytes(sealed({"more": 1, "text": "yes"}))
    with pytest.raises(StoreError, match=r"^this version can't read .*notes/000001\.json; install the version of"):
        log(tmp_path).read_whole()


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_with_its_remedy(tmp_path, data):
    log(tmp_path).create(1, Note(text="yes"))
    (tmp_path / "notes" / "000001.json").write_bytes(data)
    with pytest.raises(StoreError, match=r"^notes/000001\.json is damaged; remove it$"):
        log(tmp_path).read_whole()
