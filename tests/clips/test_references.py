"""Pictures of other people that are animated."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ipa_core.clips.metadata import read_metadata
from ipa_core.clips.references import check_named, drawn, find_pictures
from ipa_core.clips.split import split_of
from ipa_core.config import ConfigError
from ipa_core.video import encode_png

PICTURES = {f"{number}.png": f"{number:064x}" for number in range(40)}
CLIPS = [f"clip-{number:03d}" for number in range(200)]


def test_pictures_are_told_from_other_files_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "huge.pgm").write_bytes(b"P6 99999999 99999999 255\n123")
    for name in ("a.png", "Thumbs.db", ".hidden.png"):
        (tmp_path / name).write_bytes(b"no picture")
    found = find_pictures(str(tmp_path))
    assert (dict(found.paths), found.others) == ({"b.jpg": tmp_path / "b.jpg"}, ("Thumbs.db", "a.png", "huge.pgm"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clips\.references: there is no folder .*nowhere; name a folder"):
        find_pictures(str(tmp_path / "nowhere"))


def test_a_folder_without_pictures_is_named_with_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "me.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ConfigError, match=r"holds no PNG or JPEG \(me\.heic can't be read\)"):
        find_pictures(str(tmp_path))


def test_a_picture_that_a_table_names_wrong_is_guessed() -> None:
    with pytest.raises(
        ConfigError, match=r"t\.csv has the reference 'anna\.jpg', which is not in f; did you mean 'ann"
    ):
        check_named("anna.jpg", {"anna.jpeg": 0}, "f", "t.csv")


def test_a_picture_with_an_accent_is_named_by_a_table(tmp_path: Path) -> None:
    path = tmp_path / unicodedata.normalize("NFD", "Jürgen.png")
    path.write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    table = tmp_path / "table.csv"
    table.write_text(unicodedata.normalize("NFC", "file,reference\na.mp4,Jürgen.png\n"))
    (named,) = read_metadata(str(table)).references
    assert find_pictures(str(tmp_path)).paths == {named: path}


def test_held_out_clips_and_training_clips_show_other_people() -> None:
    trained = {drawn(clip, "train", PICTURES, 0.3) for clip in CLIPS}
    judged = {drawn(clip, "held_out", PICTURES, 0.3) for clip in CLIPS}
    assert len(trained) > 20
    assert judged == {name for name, digest in PICTURES.items() if split_of(digest, 0.3) == "held_out"}
    assert trained.isdisjoint(judged)


def test_one_picture_serves_all_clips() -> None:
    one = {"me.png": "ab" * 32}
    assert {drawn("clip", split, one, 0.3) for split in ("train", "held_out")} == {"me.png"}


def test_a_new_picture_changes_few_clips() -> None:
    more = PICTURES | {"new.png": "ff" * 32}
    changed = Counter(drawn(clip, "train", more, 0.0) for clip in CLIPS
                      if drawn(clip, "train", more, 0.0) != drawn(clip, "train", PICTURES, 0.0))  # fmt: skip
    assert set(changed) == {"new.png"}
    assert changed["new.png"] < len(CLIPS) / 10


def test_names_play_no_part() -> None:
    renamed = {f"renamed-{name}": digest for name, digest in PICTURES.items()}
    assert drawn("clip", "train", renamed, 0.3) == f"renamed-{drawn('clip', 'train', PICTURES, 0.3)}"
