"""A disk that gets full: a run says so early and stops with one sentence, and nothing half-written is left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.engine import room
from flows.engine.plan import plan_run
from flows.engine.run import Run
from flows.engine.status import last_runs
from flows.stages import STAGES
from ipa_core.config import RunConfig
from storage import Store, StoreError
from storage.maintenance import verify
from tests.fakes import FAKES, fake_config
from tests.flows.conftest import run_fake

Usage = namedtuple("Usage", ("total", "used", "free"))
GB = 10**9
Disk = Callable[[float], None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Say how many of the disk's 100 GB are free."""

    def free(gigabytes: float) -> None:
        usage = Usage(100 * GB, int((100 - gigabytes) * GB), int(gigabytes * GB))
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    free(50)
    return free


def run_aloud(config: RunConfig) -> Run:
    with Run(config, STAGES, FAKES) as run:
        run.walk()
    return run


def test_a_full_disk_stops_the_run_with_one_sentence_and_its_record(folder: Path, disk: Disk) -> None:
    disk(0.4)
    run = run_aloud(fake_config(folder, candidates__seed=5))
    assert run.summary.status == "failed"
    assert run.summary.error == (
        f"the disk of the store at {folder}/store has 400.0 MB left, and a run leaves 500.0 MB free; what was computed "
        "is kept: make room (`ipa store gc` shows what can go) and run the same command again"
    )
    assert last_runs(Store(folder / "store"), 1)[0].error == run.summary.error


def test_a_disk_that_gets_full_within_a_stage_loses_nothing(folder: Path, disk: Disk) -> None:
    scores = {stage.name: type(stage) for stage in STAGES}["scores"]
    made = []

    class Filling(scores):  # type: ignore[misc, valid-type]
        def compute(self, item: object, worker: object) -> object:
            made.append(item)
            if len(made) == 2:
                disk(0.4)
            return super().compute(item, worker)

    config = fake_config(folder, scores__trusted_hand_size=5)
    with Run(config, [Filling() if stage.name == "scores" else stage for stage in STAGES], FAKES, quiet=True) as run:
        run.walk()
    assert "has 400.0 MB left" in str(run.summary.error)
    assert run.summary.stages[-1].computed == 2
    disk(50)
    assert run_fake(config).computed()["scores"] == 2


def test_a_run_with_nothing_to_compute_needs_no_room(folder: Path, disk: Disk) -> None:
    disk(0.4)
    assert run_aloud(fake_config(folder)).summary.status == "nothing_new"


def test_little_room_is_said_once(folder: Path, disk: Disk, capsys: pytest.CaptureFixture[str]) -> None:
    disk(9.9)
    run_aloud(fake_config(folder, candidates__seed=5))
    sentence = f"note: the disk of the store at {folder}/store has 9.9 GB free, 10 %; `ipa store gc` shows what can go"
    assert capsys.readouterr().err.splitlines().count(sentence) == 1


def test_a_stage_that_may_find_no_room_says_so(
    folder: Path, disk: Disk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "usual_bytes", lambda stage, results: 30 * GB if stage.name == "candidates" else 0)
    run = run_aloud(fake_config(folder, candidates__seed=5))
    assert run.summary.status == "completed"
    assert (
        f"note: candidates needs about 60.0 GB, and the disk of the store at {folder}/store has 50.0 GB free; the run "
        "stops before the disk is full"
    ) in capsys.readouterr().err


def test_a_plan_says_when_the_run_may_find_no_room(folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RESERVE", 60 * GB)
    config = fake_config(folder, candidates__seed=5)
    notes = plan_run(Store(folder / "store"), config, STAGES, FAKES).notes
    assert any(re.search(r"the run needs about 0\.\d MB, and the disk of the store at", note) for note in notes)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_an_object_that_finds_no_room_is_one_sentence_and_leaves_nothing(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    digest = store.objects.put(b"there")
    with pytest.raises(StoreError, match=r"^can't write .*/objects/.*: No space left on device$"):
        store.objects.put(os.urandom(2**22))
    assert [found for found, _ in store.objects.all()] == [digest]
    assert list(store.folder.temporaries(before=float("inf"))) == []
    assert verify(store).corrupt == ()


def test_a_disk_that_others_have_filled_ends_the_run_with_one_sentence(
    small_disk: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "RESERVE", 0)
    shutil.copytree(folder / "store", small_disk / "store")
    config = fake_config(folder, execution__store=str(small_disk / "store"), candidates__seed=5)
    (small_disk / "others").write_bytes(bytes(shutil.disk_usage(small_disk).free - 50_000))
    try:
        with Run(config, STAGES, FAKES, quiet=True) as run:
            run.walk()
        sentence = str(run.summary.error)
    except StoreError as error:  # There was no room for the run's record either.
        sentence = str(error)
    assert "No space left on device" in sentence and "\n" not in sentence
    (small_disk / "others").unlink()
    assert verify(Store(small_disk / "store")).corrupt == ()
    assert run_fake(config).results.done("evaluation")
