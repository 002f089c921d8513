"""Videos and their table behind URLs of a bucket."""

from pathlib import Path
from typing import Any

import pytest

from ipa_core.clips.metadata import VideoEntry, read_metadata
from ipa_core.clips.sources import find_videos, local_file, version_of
from ipa_core.config import ConfigError


def put(url: str, data: bytes = b"x") -> None:
    import fsspec

    fsspec.filesystem("s3", use_listings_cache=False).pipe_file(url, data)


@pytest.fixture
def videos(bucket: str) -> str:
    for name in ("b.mp4", "a.MOV", "notes.txt", ".hidden.mp4", "day 1/c.mkv", "day 1/deep/d.webm", "empty/readme.md"):
        put(f"{bucket}/videos/{name}")
    put(f"{bucket}/videos/", b"")  # Consoles mark folders so.
    put(f"{bucket}/videos-of-others/e.mp4")
    return f"{bucket}/videos"


def names(videos: str, *sources: str) -> list[str]:
    return [video.address.removeprefix(f"{videos}/") for video in find_videos(sources)]


@pytest.mark.parametrize("end", ["", "/"])
def test_a_prefix_is_read_to_its_depth(videos: str, end: str) -> None:
    assert names(videos, videos + end) == ["a.MOV", "b.mp4", "day 1/c.mkv", "day 1/deep/d.webm"]


def test_a_named_file_is_taken_whatever_its_suffix(videos: str) -> None:
    assert names(videos, f"{videos}/notes.txt") == ["notes.txt"]


def test_globs(videos: str) -> None:
    assert names(videos, f"{videos}/*") == ["a.MOV", "b.mp4", "day 1/c.mkv", "day 1/deep/d.webm"]
    assert names(videos, f"{videos}/*.mp4") == ["b.mp4"]
    assert names(videos, f"{videos}/**/*.webm") == ["day 1/deep/d.webm"]
    assert names(videos, f"{videos}/day*") == ["day 1/c.mkv", "day 1/deep/d.webm"]


def test_brackets_in_a_name_are_no_pattern(videos: str) -> None:
    put(f"{videos}/e [1].mp4")
    assert names(videos, f"{videos}/e [1].mp4") == ["e [1].mp4"]


def test_a_file_is_taken_once(videos: str) -> None:
    assert names(videos, f"{videos}/b.mp4", videos, f"{videos}/b*") == names(videos, videos)


def test_files_and_urls_go_together(videos: str, tmp_path: Path) -> None:
    (tmp_path / "here.mp4").write_bytes(b"")
    found = find_videos([str(tmp_path), f"{videos}/b.mp4"])
    assert sorted(video.name for video in found) == ["b.mp4", "here.mp4"]
    assert {video.name: video.version is None for video in found} == {"here.mp4": True, "b.mp4": False}


def test_the_version_changes_with_the_bytes(videos: str) -> None:
    one = find_videos([f"{videos}/b.mp4"])[0]
    assert version_of(one.address) == one.version
    put(one.address, b"y")
    assert version_of(one.address) != one.version


@pytest.mark.parametrize("source", ["missing.mp4", "empty", "*.avi", "missing/*"])
def test_a_source_without_videos_is_named(videos: str, source: str) -> None:
    with pytest.raises(ConfigError, match=rf"there is no video at .*{source.replace('*', '[*]')}"):
        find_videos([videos, f"{videos}/{source}"])


@pytest.mark.parametrize("end", ["", "/", "/*.mp4"])
def test_no_bucket_is_one_sentence(s3_server: str, end: str) -> None:
    with pytest.raises(ConfigError, match=r"clips.sources: can't read .*The specified bucket does not exist"):
        find_videos([f"s3://no-such-bucket/videos{end}"])


def test_no_permission_is_one_sentence(videos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    async def denied(*_: Any, **options: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(S3FileSystem, "_call_s3", denied)
    with pytest.raises(ConfigError, match=rf"^clips.sources: can't read {videos}: Access Denied$"):
        find_videos([videos])


def test_a_copy_is_there_for_as_long_as_it_is_used(videos: str) -> None:
    with local_file(f"{videos}/b.mp4") as copy:
        assert (copy.name, copy.read_bytes()) == ("b.mp4", b"x")
    assert not copy.parent.exists()


def test_a_file_is_its_own_copy(tmp_path: Path) -> None:
    with local_file(str(tmp_path / "a.mp4")) as path:
        assert path == tmp_path / "a.mp4"


def test_a_table_in_a_bucket_tells_of_videos_in_buckets(bucket: str) -> None:
    put(f"{bucket}/videos.csv", f"file,group\na.mp4,anna\nday 1/b.mp4,ben\n{bucket}/c.mp4,cleo\n".encode())
    metadata = read_metadata(f"{bucket}/videos.csv")
    assert metadata.lookup(f"{bucket}/day 2/a.mp4").group == "anna"
    assert metadata.lookup(f"{bucket}/day 1/b.mp4").group == "ben"
    assert metadata.lookup(f"{bucket}/c.mp4").group == "cleo"
    assert metadata.lookup(f"{bucket}/d.mp4") == VideoEntry()


def test_no_table_in_a_bucket_is_one_sentence(bucket: str) -> None:
    with pytest.raises(ConfigError, match=f"clips.metadata: can't read {bucket}/videos.csv"):
        read_metadata(f"{bucket}/videos.csv")
