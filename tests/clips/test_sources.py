import os
from pathlib import Path

import pytest

from ipa_core.clips.sources import find_videos, search
from ipa_core.config import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.MOV", "notes.txt", ".hidden.mp4", "day 1/c.mkv", "day 1/deep/d.webm", "empty/readme.md"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "videos"


def names(folder: Path, *sources: str) -> list[str]:
    return [Path(video.address).relative_to(folder).as_posix() for video in find_videos(sources)]


def test_a_folder_is_read_to_its_depth(folder: Path) -> None:
    assert names(folder, str(folder)) == ["a.MOV", "b.mp4", "day 1/c.mkv", "day 1/deep/d.webm"]


def test_a_named_file_is_taken_whatever_its_suffix(folder: Path) -> None:
    assert names(folder, str(folder / "notes.txt")) == ["notes.txt"]


def test_globs(folder: Path) -> None:
    assert names(folder, f"{folder}/*") == ["a.MOV", "b.mp4", "day 1/c.mkv", "day 1/deep/d.webm"]
    assert names(folder, f"{folder}/*.mp4") == ["b.mp4"]
    assert names(folder, f"{folder}/**/*.webm") == ["day 1/deep/d.webm"]


def test_a_file_is_taken_once(folder: Path) -> None:
    (folder / "z.mp4").symlink_to(folder / "b.mp4")
    assert names(folder, f"{folder}/b.mp4", str(folder), f"{folder}/b*") == names(folder, str(folder))
    assert "z.mp4" not in names(folder, str(folder / "b.mp4"), str(folder))


def test_brackets_in_a_name_are_no_pattern(folder: Path) -> None:
    (folder / "e [1].mp4").write_bytes(b"")
    assert names(folder, f"{folder}/e [1].mp4") == ["e [1].mp4"]


@pytest.mark.parametrize("source", ["missing.mp4", "empty", "*.avi", "missing/*"])
def test_a_source_without_videos_is_named(folder: Path, source: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no video at .*{source.replace('*', '[*]')}"):
        find_videos([str(folder), str(folder / source)])


@pytest.mark.parametrize("suffix", ["mxf", "MTS", "m2ts", "qt", "dv", "vob", "3g2"])
def test_containers_of_cameras_are_videos(suffix: str, folder: Path) -> None:
    (folder / f"z.{suffix}").write_bytes(b"")
    assert f"z.{suffix}" in names(folder, str(folder))


def test_linked_folders_are_read_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "e.mp4").write_bytes(b"")
    (folder / "a link").symlink_to(tmp_path / "elsewhere")
    (folder / "day 0").symlink_to(folder / "day 1")
    (folder / "day 1" / "circle").symlink_to(folder)
    assert names(folder, str(folder)) == ["a link/e.mp4", "a.MOV", "b.mp4", "day 1/c.mkv", "day 1/deep/d.webm"]


def test_a_folder_with_a_videos_name_is_a_folder(folder: Path) -> None:
    (folder / "day.mp4").mkdir()
    (folder / "day.mp4" / "f.mp4").write_bytes(b"")
    assert names(folder, str(folder / "day.mp4")) == ["day.mp4/f.mp4"]


@pytest.mark.parametrize("name", ["a\nb.mp4", "a" * 251 + ".mp4"])
def test_odd_names_are_found(name: str, folder: Path) -> None:
    (folder / "odd").mkdir()
    (folder / "odd" / name).write_bytes(b"")
    assert names(folder, str(folder / "odd")) == [f"odd/{name}"]


def test_the_metadata_table_is_not_left_out(tmp_path: Path) -> None:
    for name in ("a.mp4", "metadata.csv", "other.csv"):
        (tmp_path / name).touch()
    assert search([str(tmp_path)], str(tmp_path / "metadata.csv")).left_out == {".csv": 1}


def test_what_is_left_out_is_counted_by_its_suffix(folder: Path) -> None:
    (folder / "a.braw").write_bytes(b"")
    (folder / "nowhere.mp4").symlink_to(folder / "missing.mp4")
    (folder / "README").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.mp4")).touch()
    assert search([str(folder)]).left_out == {
        ".txt": 1,
        ".md": 1,
        ".braw": 1,
        "no suffix": 1,
        "pipe or broken link": 1,
    } | {"name that is not UTF-8": 1}
    assert search([str(folder), str(folder / "a.braw")]).left_out[".braw"] == 0
