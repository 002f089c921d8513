"""A folder is the same whether it is local or behind a URL."""

from pathlib import Path

import pytest

from storage.folders import open_folder


@pytest.fixture
def folder(address):
    return open_folder(address)


def test_folders_are_named_one_level_deep(folder):
    for name in ("runs/b/run.json", "runs/a/lora/x", "runs/.hidden/x", "runs/file", "other/z"):
        folder.write(name, b"x")
    assert folder.folders("runs") == ["a", "b"]
    assert folder.folders() == ["other", "runs"]
    assert folder.folders("none") == folder.folders("runs/file") == []


def test_a_folder_without_files_is_none(folder):
    folder.write("runs/a/x", b"x")
    folder.delete("runs/a/x")
    assert folder.folders("runs") == []


def test_a_folder_below_is_part_of_the_folder(folder):
    folder.below("runs/a").write("run.json", b"x")
    assert list(folder.names("runs")) == ["runs/a/run.json"]
    assert folder.below("runs/a").address("run.json") == folder.address("runs/a/run.json")


def test_a_copy_has_the_same_bytes_and_replaces(folder):
    folder.write("a", b"new")
    folder.write("deep/b", b"old")
    assert folder.copy("a", "deep/b")
    assert folder.read("deep/b") == folder.read("a") == b"new"
    assert not folder.copy("absent", "deep/c")
    assert list(folder.names("deep")) == ["deep/b"]


def test_a_move_leaves_nothing_behind(folder):
    folder.write("a", b"x")
    folder.move("a", "deep/b")
    folder.move("absent", "deep/c")
    assert list(folder.names()) == ["deep/b"]


def test_each_keeps_the_order(folder):
    assert list(folder.each(lambda number: number * 2, range(50))) == list(range(0, 100, 2))


def test_an_error_in_one_of_many_is_raised(folder):
    with pytest.raises(ZeroDivisionError):
        list(folder.each(lambda number: 1 / number, [1, 0, 2]))


def test_a_link_takes_no_space(tmp_path):
    folder = open_folder(tmp_path)
    folder.write("a", b"x")
    folder.copy("a", "b", link=True)
    assert Path(folder.address("b")).samefile(folder.address("a"))
