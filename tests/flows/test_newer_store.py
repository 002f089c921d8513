"""A store into which a newer version has written is read, or refused with one sentence; `test_old_store` has older."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.engine.run_folder import RunFolder, runs
from flows.engine.stage import RunStopped
from flows.engine.status import run_state
from flows.engine.walk import Scope
from storage import Store
from storage.digest import digest_bytes, json_bytes
from tests.fakes import fake_config
from tests.flows.conftest import run_fake
from tests.flows.test_cli import call

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setenv("IPA_HOME", str(folder / "store"))
    return next(runs(Store(folder / "store")))


def change(run: RunFolder, **fields: object) -> None:
    run.write_json("run.json", {**run.summary(), **fields})  # type: ignore[dict-item]


def test_unknown_fields_of_a_run_are_left_unread(run: RunFolder) -> None:
    before = run_state(run)
    [first, *others] = run.summary()["stages"]  # type: ignore[index]
    change(run, watts=300, stages=[first | {"watts": 9}, *others])
    assert run_state(run) == before


@pytest.mark.parametrize("command", [("status", "last"), ("store", "gc", "--delete")])
def test_a_run_of_another_form_is_one_sentence(
    command: tuple[str, ...], run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run.write_json("run.json", {"phases": []})
    before = sorted(Path(run.address()).parents[1].rglob("*"))
    code, out, err = call(monkeypatch, capsys, *command)
    sentence = (
        f"ipa: this version can't read {run.address('run.json')}; install the version of ipa-pipeline that wrote it, "
        "or a newer one, or move the run's folder away\n"
    )
    assert (code, out, err) == (1, "", sentence)
    assert sorted(Path(run.address()).parents[1].rglob("*")) == before


@pytest.mark.parametrize("command", [("status",), ("models",), ("store", "verify"), ("store", "gc", "--delete")])
def test_a_newer_format_is_one_sentence(
    command: tuple[str, ...], run: RunFolder, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (folder / "store" / "ipa-store.json").write_text('{"format":2}')
    before = sorted((folder / "store").rglob("*"))
    code, out, err = call(monkeypatch, capsys, *command)
    assert (code, out) == (1, "")
    assert err == (
        f"ipa: {folder}/store is a store of format 2, and this version reads format 1; install the version of "
        "ipa-pipeline that wrote it, or a newer one\n"
    )
    assert sorted((folder / "store").rglob("*")) == before


def test_a_record_with_unknown_fields_stops_a_run_with_one_sentence(folder: Path) -> None:
    store = Store(folder / "store")
    for result in store.actions.all("clips"):
        write_changed(store, result.key, "clips", {"record": {**result.record, "loudness": 3}})
    with pytest.raises(
        RunStopped, match=r"^this version can't read a record of the store, it does not know CutVideo\.l"
    ):
        run_fake(fake_config(folder), Scope(last="poses"))


def test_and_a_command_that_reads(
    run: RunFolder, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for result in Store(folder / "store").actions.all("selection"):
        record = {**result.record, "best_pose": 3}
        write_changed(Store(folder / "store"), result.key, "selection", {"record": record})
    code, out, err = call(monkeypatch, capsys, "yield")
    assert (code, out, err.startswith("ipa: this version can't read a record of the store, it does not")) == (
        1,
        "",
        True,
    )


def write_changed(store: Store, key: str, stage: str, fields: dict[str, object]) -> None:
    """Write a result as a version would that has other fields."""
    path = Path(store.address) / "actions" / stage / key[:2] / f"{key}.json"
    about = json.loads(path.read_bytes())["result"] | fields
    data = b'{"key":"' + key.encode() + b'","result":' + json_bytes(about)
    path.write_bytes(data + b',"blake3":"' + digest_bytes(data).encode() + b'"}\n')
