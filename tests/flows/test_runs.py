"""The folder of a run in a local store; `test_remote.py` has the same in a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.engine.run_folder import RunFolder, named_run, runs
from flows.engine.store import LogFolder
from storage import MissingObject, Store
from storage.digest import digest_bytes


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = RunFolder.new(Store(tmp_path))
    assert folder.read_json("progress.json") is None
    folder.write_json("progress.json", {"poses": [3, 8]})
    assert RunFolder(Store(tmp_path), folder.run_id).read_json("progress.json") == {"poses": [3, 8]}


def test_a_run_that_goes_on_has_no_summary(tmp_path: Path) -> None:
    assert RunFolder.new(Store(tmp_path)).summary() is None


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("20260101-000000-aa", "20260301-000000-bb", "20260201-000000-cc"):
        RunFolder(store, name).write_json("run.json", {})
    assert [run.run_id[4:8] for run in runs(store)] == ["0301", "0201", "0101"]


@pytest.mark.parametrize(("link", "large"), [(True, True), (True, False), (False, True)])
def test_an_object_is_placed_under_a_name_for_people(
    tmp_path: Path, link: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a large object is linked, on a disk whose files can't share blocks; and then nobody may write into it."""
    monkeypatch.setattr("storage.objects.LINKED", 7 if large else 8)
    monkeypatch.setattr("storage.folders._share_blocks", lambda original, target: False)
    store = Store(tmp_path)
    digest = store.objects.put(b"weights")
    folder = RunFolder.new(store)
    for _ in range(2):
        folder.export(digest, "lora/weights", link=link)
    placed = Path(folder.address("lora/weights"))
    assert placed.read_bytes() == b"weights"
    linked = link and large
    assert placed.samefile(store.objects.path(digest)) == linked
    assert bool(placed.stat().st_mode & 0o222) != linked
    assert [path.name for path in placed.parent.iterdir()] == ["weights"]


def test_an_object_that_is_not_there_is_not_placed(tmp_path: Path) -> None:
    with pytest.raises(MissingObject):
        RunFolder.new(Store(tmp_path)).export(digest_bytes(b"absent"), "lora/weights")


def test_the_local_copy_of_a_local_file_is_the_file(tmp_path: Path) -> None:
    folder = RunFolder.new(Store(tmp_path))
    assert folder.local_copy("report.html") is None
    assert folder.write("report.html", b"<html>") == str(folder.local_copy("report.html"))


def test_logs_of_a_local_store_are_written_into_it(tmp_path: Path) -> None:
    logs = LogFolder(Store(tmp_path), "tensorboard/run")
    logs.close()
    assert logs.path == tmp_path / "tensorboard" / "run"


def test_the_last_run_is_no_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_HOME", str(tmp_path))
    store = Store(tmp_path)
    for name in ("20260101-000000-aa", "20260201-000000-bb"):
        RunFolder(store, name).write_json("run.json", {})
    RunFolder(store, "20260201-000000-bb").mark_experiment()
    assert named_run("last").run_id == "20260101-000000-aa"
    assert named_run("20260201-000000-bb").is_experiment
