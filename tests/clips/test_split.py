import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_core.clips.split import group_of, split_of
from ipa_core.config import ClipsConfig

GROUPS = ("anna", "ben", "chloe", "dmitri", "姚明", "", "0123456789abcdef", "eve", "finn")


def test_a_group_never_changes_sides() -> None:
    assert [group for group in GROUPS if split_of(group, 0.5) == "held_out"] == ["ben", "dmitri", "姚明", "eve", "finn"]
    assert [group for group in GROUPS if split_of(group, 0.2) == "held_out"] == ["finn"]


def test_the_share_is_kept() -> None:
    held_out = sum(split_of(f"performer {number}", 0.2) == "held_out" for number in range(5000))
    assert held_out == pytest.approx(1000, abs=100)


@given(st.text())
def test_none_and_all(group: str) -> None:
    assert split_of(group, 0) == "train"
    assert split_of(group, 1) == "held_out"


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_adds(group: str, first: float, second: float) -> None:
    if split_of(group, min(first, second)) == "held_out":
        assert split_of(group, max(first, second)) == "held_out"


@pytest.mark.parametrize(
    ("group_by", "path", "group"),
    [
        ("file", "/data/ann/take-1.mp4", None),
        ("folder", "/data/ann/take-1.mp4", "ann"),
        ("folder", "s3://bucket/ann/take-1.mp4", "ann"),
        ("folder", "take-1.mp4", None),
        (r"/([a-z]+)_take", "/data/bea_take3.mp4", "bea"),
        (r"/([a-z]+)_take", "/data/other.mp4", None),
    ],
)
def test_a_videos_group_follows_from_its_path(group_by: str, path: str, group: str | None) -> None:
    assert group_of(path, group_by) == group


@pytest.mark.parametrize(
    ("group_by", "said"), [("(", "must be file, folder or a regular expression"), ("take", "needs a group in brackets")]
)
def test_a_group_by_that_names_nobody_is_refused(group_by: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ClipsConfig(sources=("videos",), group_by=group_by)
