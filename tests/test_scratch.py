"""Scratch folders, and which of them nobody needs any more."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ipa_core.scratch import abandoned, scratch_folder

ROOT = Path(__file__).parents[1]
_KILLED = """
import os, signal
from ipa_core.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "half").write_bytes(b"half")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def make_old(folder: Path) -> None:
    os.utime(folder, (time.time() - 3600,) * 2)


def test_it_goes_at_the_end() -> None:
    with scratch_folder() as folder:
        (folder / "file").write_bytes(b"x")
    assert not folder.exists()


def test_one_of_a_living_process_is_not_abandoned() -> None:
    with scratch_folder() as folder:
        make_old(folder)
        assert abandoned() == []


def test_one_of_a_killed_process_is() -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED], cwd=ROOT, capture_output=True, text=True)
    folder = Path(killed.stdout.strip())
    make_old(folder)
    assert abandoned() == [folder]


def test_folders_of_others_are_not(tmp_path: Path) -> None:
    for name in ("ipa-1000", "ipa-ultralytics", "somebody"):
        (tmp_path / name).mkdir()
        make_old(tmp_path / name)
    assert abandoned() == []
