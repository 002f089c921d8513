"""A disk that fails during a run: one sentence, a clean store, and the same run goes on to the same results."""

from __future__ import annotations

import errno
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.engine.stage import RunStopped
from flows.engine.walk import Scope
from ipa_core.config import RunConfig
from storage import Store, StoreError
from storage.maintenance import verify
from tests.fakes import fake_config, write_videos
from tests.faults import failing
from tests.flows.conftest import VIDEOS, whole_run

pytestmark = pytest.mark.slow
FAULTS = {
    "full": {"error": errno.ENOSPC, "lasting": True},
    "broken": {"error": errno.EIO, "reads": True},
    "read-only": {"error": errno.EROFS, "lasting": True},
}
SCOPE = Scope(None, "scores")


def error_of(config: RunConfig) -> str | None:
    """The sentence with which a run ended, None for one that came to its end. Any other error is raised."""
    try:
        return whole_run(config, SCOPE).error
    except (RunStopped, StoreError) as error:
        return str(error)


def results(config: RunConfig) -> dict[str, list[str]]:
    store = Store(config.execution.store or "")
    return {
        stage: sorted(blob.digest for result in store.actions.all(stage) for blob in result.outputs.values())
        for stage in store.actions.stages()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], int, int]:
    """The results of a whole run, and how many operations it makes in its store and in the folder for scratch files."""
    folder = tmp_path_factory.mktemp("whole")
    config = prepared(folder)
    with failing(folder / "store", 0) as disk:
        assert error_of(config) is None
    with failing(Path(tempfile.gettempdir()), 0) as scratch:
        whole_run(config, Scope(None, "scores", frozenset({"clips"})))
    return results(config), disk.count, scratch.count


def prepared(folder: Path) -> RunConfig:
    write_videos(folder / "videos", VIDEOS)
    return fake_config(folder)


@pytest.mark.parametrize(("fault", "share"), [("full", 0.1), ("full", 0.7), ("broken", 0.4), ("read-only", 0.9)])
def test_a_run_whose_store_fails_goes_on(
    fault: str, share: float, whole: tuple[dict[str, list[str]], int, int], tmp_path: Path
) -> None:
    wanted, count, _ = whole
    config = prepared(tmp_path)
    with failing(tmp_path / "store", round(share * count), **FAULTS[fault]) as disk:  # type: ignore[arg-type]
        error = error_of(config)
    assert disk.failed and error is not None and "\n" not in error
    found = verify(Store(tmp_path / "store"))
    assert (found.corrupt, found.damaged, found.incomplete) == ((), (), ())
    assert error_of(config) is None
    assert results(config) == wanted


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_without_room_for_scratch_files_goes_on(
    fault: str, whole: tuple[dict[str, list[str]], int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with failing(scratch, whole[2] // 8, **FAULTS[fault]) as disk:  # type: ignore[arg-type]
        error = error_of(config)
    assert disk.failed and error is not None and "\n" not in error
    assert error_of(config) is None
    assert results(config) == whole[0]


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 300 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this user can't mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_one_sentence_and_with_more_room_the_run_goes_on(
    little_disk: Path, whole: tuple[dict[str, list[str]], int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared(tmp_path).model_copy(deep=True)
    config = config.model_copy(
        update={"execution": config.execution.model_copy(update={"store": str(little_disk / "store")})}
    )
    monkeypatch.setattr("flows.engine.room.RESERVE", 0.0)  # Else the run says so before the disk is full.
    error = error_of(config)
    assert error is not None and "No space left on device" in error and "\n" not in error
    found = verify(Store(little_disk / "store"))
    assert (found.corrupt, found.damaged, found.incomplete) == ((), (), ())
    subprocess.run(["mount", "-o", "remount,size=64m", little_disk], check=True)
    assert error_of(config) is None
    assert results(config) == whole[0]
