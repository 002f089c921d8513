import json
import os
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import digest
from storage.digest import FileDigests, canonical_json, digest_bytes, digest_config, digest_file, is_digest

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


def write_old(path: Path, data: bytes) -> Path:
    """A file that was written long enough ago for its stat to be trusted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


@settings(max_examples=40, deadline=None)
@given(JSON)
def test_canonical_json_is_read_back_as_it_was(value):
    assert json.loads(canonical_json(value)) == value


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(TEXT, JSON, max_size=6))
def test_the_order_of_a_mapping_plays_no_part(mapping):
    backwards = dict(reversed(mapping.items()))
    assert canonical_json(backwards) == canonical_json(mapping)


def test_canonical_json_has_one_form():
    value = MappingProxyType(OrderedDict(b=(1, 1.0, True, None), a={"ü": "é\n"}))
    assert canonical_json(value) == '{"a":{"ü":"é\\n"},"b":[1,1.0,true,null]}'.encode()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, float("nan")]}, r"the value\.a\[1\] is nan"),
        ({"shift": float("inf")}, r"the value\.shift is inf"),
        ({"a": {1: 2}}, r"the value\.a has the key 1"),
        ({"path": Path("x")}, r"the value\.path is a PosixPath"),
        ({"name": "\ud800"}, r"the value\.name is no Unicode text"),
        ({"bytes": b""}, r"the value\.bytes is a bytes"),
    ],
)
def test_what_json_has_no_word_for_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        canonical_json(value)


def test_digests_are_those_of_blake3():
    assert digest_bytes(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest_config({}) == digest_bytes(b"{}")


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n", "../" + "0" * 61, None, b"0" * 64])
def test_what_is_no_digest(text):
    assert not is_digest(text)


def test_a_file_has_the_digest_of_its_bytes(tmp_path):
    for size in (0, 1, 17 * 2**20):
        path = tmp_path / str(size)
        path.write_bytes(b"x" * size)
        assert digest_file(path) == digest_bytes(b"x" * size)


_HASH_THEN_FORK = """
import multiprocessing, sys, warnings
from pathlib import Path
from storage.digest import digest_file
warnings.simplefilter("ignore")  # Newer Pythons warn of forks with threads. This test forks with threads on purpose.
path = Path(sys.argv[1])
digest_file(path)
child = multiprocessing.get_context("fork").Process(target=digest_file, args=(path,))
child.start()
child.join(60)
sys.exit(child.exitcode if child.exitcode is not None else (child.kill() or 1))
"""


def test_a_forked_child_can_hash_after_its_parent_did_with_threads(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(b"x" * 17 * 2**20)
    # The code runs in its own process: the threads of other tests could hang a forked child as well.
    assert subprocess.run([sys.executable, "-c", _HASH_THEN_FORK, str(path)]).returncode == 0


class TestFileDigests:
    def test_touching_and_renaming_change_no_digest(self, tmp_path):
        digests = FileDigests(None)
        path = write_old(tmp_path / "a.mp4", b"video")
        before = digests.file(path), digests.tree(tmp_path)
        os.utime(path)
        assert (digests.file(path), digests.tree(tmp_path)) == before
        assert digests.file(path.rename(tmp_path / "b.mp4")) == before[0]

    def test_an_unchanged_file_is_read_once_over_processes(self, tmp_path, monkeypatch):
        path = write_old(tmp_path / "a", b"bytes")
        first = FileDigests(tmp_path / "cache.json")
        expected = first.file(path)
        first.save()
        monkeypatch.setattr(digest, "digest_file", lambda _: pytest.fail("the file was read again"))
        assert FileDigests(tmp_path / "cache.json").file(path) == expected

    def test_changed_bytes_of_the_same_size_and_time_are_seen(self, tmp_path):
        digests = FileDigests(None)
        path = write_old(tmp_path / "a", b"one")
        digests.file(path)
        time.sleep(0.02)  # The clock of the file's times may tick only every few milliseconds.
        write_old(path, b"two")
        assert digests.file(path) == digest_bytes(b"two")

    def test_a_file_that_was_just_written_is_not_trusted(self, tmp_path):
        digests = FileDigests(tmp_path / "cache.json")
        path = tmp_path / "fresh"
        path.write_bytes(b"x")
        digests.file(path)
        digests.save()
        assert not (tmp_path / "cache.json").exists()

    def test_saving_keeps_what_another_process_saved(self, tmp_path):
        one, other = FileDigests(tmp_path / "cache.json"), FileDigests(tmp_path / "cache.json")
        one.file(write_old(tmp_path / "a", b"a"))
        other.file(write_old(tmp_path / "b", b"b"))
        one.save()
        other.save()
        assert len(json.loads((tmp_path / "cache.json").read_text())) == 2

    @pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff"])
    def test_a_damaged_cache_file_costs_time_only(self, tmp_path, damage):
        (tmp_path / "cache.json").write_bytes(damage)
        path = write_old(tmp_path / "a", b"a")
        digests = FileDigests(tmp_path / "cache.json")
        assert digests.file(path) == digest_bytes(b"a")
        digests.save()

    def test_a_tree_is_names_and_bytes(self, tmp_path):
        write_old(tmp_path / "one" / "sub" / "w.bin", b"w")
        write_old(tmp_path / "two" / "sub" / "w.bin", b"w")
        write_old(tmp_path / "three" / "sub" / "v.bin", b"w")
        digests = FileDigests(None)
        assert digests.tree(tmp_path / "one") == digests.tree(tmp_path / "two") != digests.tree(tmp_path / "three")

    def test_a_snapshot_of_links_equals_the_folder_of_its_files(self, tmp_path):
        write_old(tmp_path / "plain" / "unet" / "w.bin", b"w")
        write_old(tmp_path / "blobs" / "abc", b"w")
        (tmp_path / "snapshot" / "unet").mkdir(parents=True)
        (tmp_path / "snapshot" / "unet" / "w.bin").symlink_to(tmp_path / "blobs" / "abc")
        (tmp_path / "linked").mkdir()
        (tmp_path / "linked" / "unet").symlink_to(tmp_path / "plain" / "unet")
        digests = FileDigests(None)
        assert digests.tree(tmp_path / "snapshot") == digests.tree(tmp_path / "plain")
        assert digests.tree(tmp_path / "linked") == digests.tree(tmp_path / "plain")

    def test_hidden_files_play_no_part(self, tmp_path):
        write_old(tmp_path / "w.bin", b"w")
        before = FileDigests(None).tree(tmp_path)
        write_old(tmp_path / ".git" / "HEAD", b"x")
        write_old(tmp_path / ".DS_Store", b"x")
        assert FileDigests(None).tree(tmp_path) == before

    def test_links_in_a_circle_are_refused(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "back").symlink_to(tmp_path)
        with pytest.raises(ValueError, match="a link to a folder that it lies in"):
            FileDigests(None).tree(tmp_path)

    def test_a_broken_link_is_an_error(self, tmp_path):
        (tmp_path / "w.bin").symlink_to(tmp_path / "absent")
        with pytest.raises(FileNotFoundError):
            FileDigests(None).tree(tmp_path)
