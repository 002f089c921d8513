import os
import unicodedata
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet
import pytest

from ipa_core.clips.metadata import Unmatched, VideoEntry, read_metadata
from ipa_core.clips.sources import Video
from ipa_core.config import ConfigError


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_looked_up_by_the_end_of_the_path(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"videos.{suffix}"
    columns = {"file": ["a.mp4", "day 1/a.mp4", "b.mp4"], "prompt": ["a dance", "", None], "group": ["007", "2", None]}
    if suffix == "csv":
        path.write_text("file,prompt,group\na.mp4,a dance,007\nday 1/a.mp4,,2\nb.mp4,,\n")
    else:
        pyarrow.parquet.write_table(pa.table(columns), path)
    metadata = read_metadata(str(path))
    assert metadata.lookup("/videos/a.mp4") == VideoEntry("a dance", "007")
    assert metadata.lookup("/videos/day 2/a.mp4") == VideoEntry("a dance", "007")
    assert metadata.lookup("/videos/day 1/a.mp4") == VideoEntry(None, "2")
    assert metadata.lookup("/videos/b.mp4") == VideoEntry(None, None)
    assert metadata.lookup("/videos/ca.mp4") == VideoEntry(None, None)


def test_relative_and_absolute_names_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text(f"file,group\n{tmp_path / 'a.mp4'},anna\n./b.mp4,ben\n")
    metadata = read_metadata("table.csv")
    assert metadata.lookup("a.mp4").group == "anna"
    assert metadata.lookup("b.mp4").group == "ben"


def test_a_split_is_that_of_the_whole_group(tmp_path: Path) -> None:
    rows = ["a.mp4,anna,held_out", "b.mp4,anna,", "c.mp4,,train", "d.mp4,,", "e.mp4,ben,"]
    (tmp_path / "a.csv").write_text("\n".join(["file,group,split", *rows]))
    metadata = read_metadata(str(tmp_path / "a.csv"))
    assert [metadata.lookup(f"{name}.mp4").split for name in "abcde"] == ["held_out", "held_out", "train", None, None]


def test_numbers_in_parquet_are_names(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"file": ["a.mp4"], "group": [12]}), tmp_path / "a.parquet")
    assert read_metadata(str(tmp_path / "a.parquet")).lookup("a.mp4").group == "12"


def test_a_byte_order_mark_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes('\ufefffile,prompt\n"a.mp4","she waves, ""hello"""\n'.encode())
    assert read_metadata(str(tmp_path / "a.csv")).lookup("a.mp4").prompt == 'she waves, "hello"'


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("file,performer\na.mp4,anna\n", "unknown column 'performer'"),
        ("prompt,group\na dance,anna\n", "no column 'file'"),
        ("file,group\na.mp4,anna\n./a.mp4,ben\n", "'./a.mp4' twice"),
        ("file,group\n,anna\n", "a row without 'file'"),
        ("file,group\na.mp4,anna,ben\n", "can't be read"),
        ("file,file\na.mp4,b.mp4\n", "column 'file' twice"),
        ("file,split\na.mp4,test\n", "the split 'test'; it may be: train, held_out"),
        ("file,group,split\na.mp4,anna,train\nb.mp4,anna,held_out\n", "group 'anna' both in train and in held_out"),
        ("", "can't be read"),
    ],
)
def test_a_table_that_can_not_be_used(tmp_path: Path, table: str, problem: str) -> None:
    (tmp_path / "a.csv").write_text(table)
    with pytest.raises(ConfigError, match=problem):
        read_metadata(str(tmp_path / "a.csv"))


@pytest.mark.parametrize(("name", "problem"), [("a.xlsx", "neither"), ("b.csv", "no file"), ("c.parquet", "no file")])
def test_no_table(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(ConfigError, match=problem):
        read_metadata(str(tmp_path / name))


def test_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(os.urandom(100))
    with pytest.raises(ConfigError, match="can't be read"):
        read_metadata(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_columns_are_separated_by_commas_semicolons_or_tabs(tmp_path: Path, sign: str) -> None:
    (tmp_path / "table.csv").write_text(sign.join(["file", "prompt"]) + "\n" + sign.join(["a.mp4", "a dance"]) + "\n")
    assert read_metadata(str(tmp_path / "table.csv")).lookup("/videos/a.mp4").prompt == "a dance"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["NFC", "NFD"])
def test_a_name_with_an_accent_is_the_same_however_it_is_written(
    tmp_path: Path, form: Literal["NFC", "NFD"], name: Literal["NFC", "NFD"]
) -> None:
    (tmp_path / "table.csv").write_text("file,group\n" + unicodedata.normalize(form, "Jürgen.mp4,ann\n"))
    video = unicodedata.normalize(name, "/videos/Jürgen.mp4")
    assert read_metadata(str(tmp_path / "table.csv")).lookup(video).group == "ann"


@pytest.mark.parametrize("file", ["day 1\\a.mp4", " day 1/a.mp4 "])
def test_a_windows_path_and_blanks_around_a_name(tmp_path: Path, file: str) -> None:
    (tmp_path / "table.csv").write_text(f"file,group\n{file},ann\n")
    assert read_metadata(str(tmp_path / "table.csv")).lookup("/videos/day 1/a.mp4").group == "ann"


def test_a_latin_1_table_is_read_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes("file,prompt\nJürgen.mp4,Jürgen tanzt\n".encode("latin-1"))
    found = read_metadata(str(tmp_path / "table.csv"))
    assert found.lookup("/videos/Jürgen.mp4").prompt == "Jürgen tanzt"
    assert found.note is not None and "was read as Latin-1" in found.note


def test_rows_and_videos_that_have_nothing_in_common(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file,group,split\na.mp4,ann,train\nB.mp4,ben,held_out\nc.mp4,ann,\n")
    left = read_metadata(str(tmp_path / "table.csv")).unmatched([Video("/v/a.mp4"), Video("/v/b.mp4")])
    assert left == Unmatched(rows=("B.mp4", "c.mp4"), deciding=("B.mp4",), videos=("b.mp4",))
    assert left.guess("B.mp4") == "'B.mp4' (did you mean 'b.mp4'?)"


def test_a_row_without_a_group_decides_whatever_other_rows_match(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file,split\na.mp4,train\nB.mp4,held_out\n")
    left = read_metadata(str(tmp_path / "table.csv")).unmatched([Video("/v/a.mp4"), Video("/v/b.mp4")])
    assert left.deciding == ("B.mp4",)


@pytest.mark.parametrize("other", ["Jürgen ", unicodedata.normalize("NFD", "Jürgen"), " Jürgen"])
def test_a_group_is_the_same_however_it_is_written(tmp_path: Path, other: str) -> None:
    (tmp_path / "table.csv").write_text(f"file,group,split\na.mp4,Jürgen,held_out \nb.mp4,{other},\nc.mp4, ,\n")
    found = read_metadata(str(tmp_path / "table.csv"))
    assert [found.lookup(f"/v/{name}.mp4").group for name in "abc"] == ["Jürgen", "Jürgen", None]
    assert found.lookup("/v/b.mp4").split == "held_out"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_table_of_excel(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "table.csv").write_bytes("file\tprompt\r\nJürgen.mp4\tJürgen tanzt\r\n".encode(encoding))
    found = read_metadata(str(tmp_path / "table.csv"))
    assert (found.lookup("/videos/Jürgen.mp4").prompt, found.note) == ("Jürgen tanzt", None)
