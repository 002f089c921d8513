from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ipa_core.records import Record
from storage import StoreError
from storage.log import NumberedLog


class Note(Record):
    text: str


def log(address) -> NumberedLog[Note]:
    return NumberedLog(address, "notes", "note", TypeAdapter(Note), "remove it")


def append(one: NumberedLog[Note], text: str) -> None:
    while not one.write(f"{len(one.names()) + 1:06d}.json", Note(text=text)):
        pass


@settings(max_examples=30, deadline=None)
@given(writers=st.lists(st.tuples(st.integers(0, 1), st.text(max_size=5)), max_size=12))
def test_two_writers_in_turn_lose_nothing(tmp_path_factory, writers):
    folder = tmp_path_factory.mktemp("log")
    logs = log(folder), log(folder)
    for number, text in writers:
        append(logs[number], text)
    found = dict(log(folder).read(log(folder).names()))
    assert [found[name].text for name in sorted(found)] == [text for _, text in writers]


def test_writers_at_once_lose_nothing(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: append(log(tmp_path), str(number)), range(40)))
    assert {note.text for _, note in log(tmp_path).read(log(tmp_path).names())} == {str(n) for n in range(40)}


def test_a_file_is_written_once(tmp_path):
    assert log(tmp_path).write("000001.json", Note(text="first"))
    assert not log(tmp_path).write("000001.json", Note(text="second"))
    assert [note.text for _, note in log(tmp_path).read(["000001.json"])] == ["first"]


def test_damage_is_told_with_the_name_and_what_to_do(tmp_path):
    log(tmp_path).write("000001.json", Note(text="yes"))
    path = tmp_path / "notes" / "000001.json"
    path.write_bytes(path.read_bytes().replace(b"yes", b"no!"))
    with pytest.raises(StoreError, match=r"notes/000001\.json is damaged; remove it"):
        list(log(tmp_path).read(["000001.json"]))
