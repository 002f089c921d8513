"""Leases: one holder at a time, and none that a dead process keeps from others for long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage import leases
from storage.leases import Leases

KEY = "ab" * 32
OTHERS = b'{"beats":0,"place":"another machine","process":1}'


@pytest.fixture(params=["disk", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "disk" else str(request.getfixturevalue("bucket"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The observer's clock, in seconds."""
    now = [0.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    return now


def write(folder: Path, content: bytes) -> Path:
    (folder / "leases").mkdir(exist_ok=True)
    path = folder / "leases" / f"{KEY}.json"
    path.write_bytes(content)
    return path


def test_one_holds_a_lease_at_a_time(address: str) -> None:
    with Leases(address).claimed(KEY) as first, Leases(address).claimed(KEY) as second:
        assert (first, second) == (True, False)


def test_a_lease_ends_with_its_block(address: str) -> None:
    with Leases(address).claimed(KEY):
        assert not Leases(address).is_free(KEY)
    assert Leases(address).is_free(KEY)


def test_a_lease_ends_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Leases(tmp_path).claimed(KEY):
        raise KeyError
    assert Leases(tmp_path).is_free(KEY)


DIES = f"""
import os, sys
from storage.leases import Leases
with Leases(sys.argv[1]).claimed("{KEY}"):
    os._exit(0)
"""


def test_the_lease_of_a_dead_process_of_this_machine_is_free_at_once(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "leases" / f"{KEY}.json").exists()
    with Leases(tmp_path).claimed(KEY) as mine:
        assert mine


def test_a_lease_of_another_machine_is_free_when_it_stands_still(tmp_path: Path, clock: list[float]) -> None:
    write(tmp_path, OTHERS)
    observer = Leases(tmp_path)
    found = []
    for clock[0] in (0.0, 44.0, 46.0):
        found.append(observer.is_free(KEY))
    assert found == [False, False, True]


def test_a_sign_of_life_keeps_it(tmp_path: Path, clock: list[float]) -> None:
    observer = Leases(tmp_path)
    for clock[0], beats in ((0.0, b"0"), (40.0, b"1"), (80.0, b"2")):
        write(tmp_path, OTHERS.replace(b"0", beats, 1))
        assert not observer.is_free(KEY)


def test_the_holder_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_BEAT", 0.01)
    path = tmp_path / "leases" / f"{KEY}.json"
    with Leases(tmp_path).claimed(KEY):
        while b'"beats":2' not in path.read_bytes():
            pass
    assert not path.exists()


def test_a_lease_that_another_took_over_is_left_to_it(tmp_path: Path) -> None:
    with Leases(tmp_path).claimed(KEY):
        path = write(tmp_path, OTHERS)
    assert path.read_bytes() == OTHERS


def test_half_a_lease_counts_until_it_stands_still(tmp_path: Path, clock: list[float]) -> None:
    write(tmp_path, b"")
    observer = Leases(tmp_path)
    found = []
    for clock[0] in (0.0, 46.0):
        found.append(observer.is_free(KEY))
    assert found == [False, True]


def test_where_none_can_be_written_everybody_computes(tmp_path: Path) -> None:
    (tmp_path / "leases").touch()  # Even an administrator can't write below it.
    with Leases(tmp_path).claimed(KEY) as first, Leases(tmp_path).claimed(KEY) as second:
        assert (first, second) == (True, True)
