"""Damage of every kind of file: it is found, just that is forgotten, and no command answers with a traceback."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from starlette.testclient import TestClient

from flows.cli.app import command_tree
from flows.engine.machine import Machine
from flows.engine.run_folder import RunFolder, RunProgress, RunSummary, StageTable
from flows.engine.stage import Item, ItemResult
from flows.engine.view import Results
from flows.web.app import Access, web_app
from storage import Action, ActionResult, Blob, Store
from storage.damage import damages, forget, sealed_text
from storage.maintenance import verify
from storage.registry import Registry
from tests.fakes import fake_config
from tests.flows.test_cli import call
from tests.flows.test_old_store import ARCHIVE

RUN: Final = "20261128-000000-0000"
PAGE: Final = b"<!doctype html>\n<html><body>the report</body></html>\n"
MP4: Final = b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x10mdat" + bytes(8)
KINDS: Final = {
    "marker": "ipa-store.json",
    "object": "objects/*/*",
    "result": "actions/selection/*/*.json",
    "checkpoint": "checkpoints/*/*",
    "event": "registry/000002.json",
    "review": "reviews/*/*.json",
    "run.json": f"runs/{RUN}/run.json",
    "progress.json": f"runs/{RUN}/progress.json",
    "machine.json": f"runs/{RUN}/machine.json",
    "config.yaml": f"runs/{RUN}/config.yaml",
    "items.parquet": f"runs/{RUN}/items.parquet",
    "report.html": f"runs/{RUN}/report.html",
    "shard": f"runs/{RUN}/shards/000000.tar",
    "report cache": "reports/*.page",
    "report's run": "reports/*.run",
    "model's digest": "models/*",
    "stat cache": "files.json",
    "cache of URLs": "urls.json",
    "sweep": "sweeps/*/results.json",
    "sweep's page": "sweeps/*/results.html",
    "preview": "previews/*/*.mp4",
}
DAMAGES: Final[dict[str, Callable[[Path], object]]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3]),
    "zero bytes": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\xff\xfe\x00garbage" * 20),
    "another type": lambda path: path.write_bytes(b'["a list", 3]'),
    "missing": lambda path: path.unlink(),
}
NOTICED_WHEN_MISSING: Final = ("marker", "event")
LISTINGS: Final = (("status",), ("status", RUN), ("models",), ("yield",), ("report", RUN))
COMMANDS: Final = (
    *LISTINGS,
    ("status", "last"),
    ("status", "--stats"),
    ("review", "export", "--to", "reviews.csv"),
    ("review", "agreement"),
    ("store", "stat"),
    ("store", "gc", "--days", "0", "--runs", "1"),
    ("plan", "config.yaml"),
)


def record_run(store: Store) -> None:
    """A run with every file that a run can have."""
    blob = Blob(store.objects.put(b"a shard"), 7)
    made = store.actions.commit(
        ActionResult(Action("shards", 2, {}, {}), "done", None, {"samples": 1}, {"000000.tar": blob})
    )
    folder = RunFolder(store, RUN)
    folder.write_config(fake_config(Path(store.address).parent))
    folder.write_items(Results({"shards": [ItemResult(Item("samples", made.action), "computed", made)]}))
    folder.write_machine(Machine("a", "b", 1, (), {}, None))
    folder.write_progress(RunProgress((), None, None, 1.0, "a", 1))
    row = StageTable("shards", 1, 0, 1, 0, 0, 1.0)
    folder.write_summary(RunSummary(RUN, "completed", (row,)))
    folder.write("report.html", PAGE)
    folder.export(blob.digest, "shards/000000.tar", link=True)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whole(tmp_path_factory.mktemp("whole"))


def make_whole(folder: Path) -> Path:
    """Make a working directory with a store of an older version, and with all other kinds of files."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    (folder / "store").rename(folder / ".ipa")
    store = Store(folder / ".ipa")
    record_run(store)
    store.checkpoints.save("a" * 64, 1, b"earlier")
    store.checkpoints.save("a" * 64, 2, b"state")
    digest = "b" * 64
    for name, data in {
        f"reports/{digest}.page": sealed_text("<p>results</p>"),
        f"reports/{digest}.run": RUN.encode(),
        f"models/{digest}": digest.encode(),
        "files.json": json.dumps({"/a/video.mp4": [1, 2, 3, 4, digest]}).encode(),
        "urls.json": json.dumps({"s3://a/video.mp4": ["etag", digest]}).encode(),
        "sweeps/one/results.json": b'{"arms": []}',
        "sweeps/one/results.html": PAGE,
        f"previews/{digest}/step-000001-clip.mp4": MP4,
    }.items():
        store.folder.write(name, data)
    config = fake_config(folder).model_dump(mode="json") | {"execution": {}}
    (folder / "config.yaml").write_text(json.dumps(config))
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    monkeypatch.chdir(copy)
    monkeypatch.delenv("IPA_HOME", raising=False)
    monkeypatch.setenv("IPA_COMPONENTS", "tests.fakes:FAKES")
    monkeypatch.setattr("flows.cli.app.command_tree", cache(command_tree))
    return copy


@pytest.fixture
def small(whole: Path, tmp_path: Path) -> Path:
    """A store with one run only, and few results."""

    def unneeded(folder: str, names: list[str]) -> set[str]:
        kept = {"actions": {"selection", "shards"}, "runs": {RUN}}.get(Path(folder).name)
        return set() if kept is None else set(names) - kept

    return Path(shutil.copytree(whole / ".ipa", tmp_path / "small", ignore=unneeded))


def test_a_whole_store_has_no_damage(folder: Path) -> None:
    found = verify(Store(folder / ".ipa"))
    assert (found.corrupt, found.damaged) == ((), ())
    assert all(next(folder.joinpath(".ipa").glob(pattern), None) for pattern in KINDS.values())


def damaged(store: Path, kind: str, damage: str) -> str:
    """Damage the last file of a kind, and return its name in the store."""
    victim = sorted(store.glob(KINDS[kind]))[-1]
    DAMAGES[damage](victim)
    return victim.relative_to(store).as_posix()


@pytest.mark.parametrize("damage", ["truncated", "zero bytes", "another type"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("marker", "object")])
def test_damage_is_found_and_just_that_is_forgotten(kind: str, damage: str, small: Path) -> None:
    store = Store(small)
    name = damaged(small, kind, damage)
    found = list(damages(store))
    assert [one.name for one in found] == [name]
    forget(store, found[0])
    assert list(damages(store)) == []


@pytest.mark.parametrize("damage", ["truncated", "zero bytes", "empty", "another type"])
def test_a_damaged_copy_of_the_marker_is_written_again(damage: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    copy = tmp_path / "store" / "ipa-store-copy.json"
    whole = copy.read_bytes()
    DAMAGES[damage](copy)
    (found,) = damages(store)
    forget(store, found)
    assert (found.name, copy.read_bytes()) == (copy.name, whole)


def test_a_missing_event_leaves_a_note(folder: Path) -> None:
    store = Store(folder / ".ipa")
    before = Registry(store.address).state().events
    name = damaged(folder / ".ipa", "event", "missing")
    for one in damages(store):
        forget(store, one)
    after = Registry(store.address).state().events
    assert [event.kind for event in after if event not in before] == ["lost"]
    assert (name, len(after)) == ("registry/000002.json", len(before))


Answers = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ipa(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answers:
    def answers(*command: str) -> tuple[int, str, str]:
        """Code and output of a command, which ends with one sentence if it fails."""
        code, out, err = call(monkeypatch, capsys, *command)
        assert "Traceback" not in err, command
        assert code == 0 or re.search(r"^ipa: [^\n]+\n\Z", err, re.MULTILINE) or command[0] == "store", (command, err)
        return code, out, err

    return answers


def pages(store: Path) -> None:
    """Ask for the pages of the site. An error that the site does not catch is raised here."""
    site = TestClient(web_app(Store(store), Access(None)), base_url="http://127.0.0.1")
    for page in ("/", f"/runs/{RUN}", f"/runs/{RUN}/report.html", "/models", "/sweeps"):
        assert site.get(page).status_code in (200, 404, 500)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith((".json", ".yaml", ".parquet", "event"))])
def test_commands_that_list_have_a_sentence_for_it(kind: str, folder: Path, ipa: Answers) -> None:
    damaged(folder / ".ipa", kind, "another type")
    for command in LISTINGS:
        ipa(*command)
    pages(folder / ".ipa")


CASES = [
    pytest.param(kind, list(DAMAGES)[(number + turn) % len(DAMAGES)])
    for number, kind in enumerate(KINDS)
    for turn in (0, 3)
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_every_command_has_a_sentence_for_it_until_it_is_repaired(
    kind: str, damage: str, folder: Path, ipa: Answers
) -> None:
    name = damaged(folder / ".ipa", kind, damage)
    for command in COMMANDS:
        ipa(*command)
    if kind != "marker":
        pages(folder / ".ipa")
    code, said, err = ipa("store", "verify")
    noticed = damage != "missing" or kind in NOTICED_WHEN_MISSING
    assert code == int(noticed)
    assert not noticed or name.removeprefix("objects/").replace("/", "") in (said + err).replace("/", "")
    assert ipa("store", "repair")[0] == 0
    for command in (("store", "verify"), ("status",), ("models",), ("yield",), ("store", "gc")):
        assert ipa(*command)[0] == 0, command


def test_only_the_damaged_file_is_forgotten(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = folder / ".ipa"
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    victim = store / KINDS["run.json"]
    victim.write_bytes(b"{")
    call(monkeypatch, capsys, "store", "repair")
    after = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert after == {path: data for path, data in before.items() if path != victim} | {
        store / "quarantine" / KINDS["run.json"]: b"{"
    }


def test_a_damaged_record_hides_no_other_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ".ipa" / KINDS["run.json"]).write_bytes(b"{")
    _, said, _ = call(monkeypatch, capsys, "status", "--json")
    states = {run["run_id"]: run["state"] for run in json.loads(said)}
    assert states.pop(RUN) == "unreadable"
    assert set(states.values()) == {"completed"} and len(states) == 3


def test_events_about_a_lost_adapter_count_no_more(folder: Path, ipa: Answers) -> None:
    state = Registry(folder / ".ipa").state()
    first = next(iter(state.adapters))
    (folder / ".ipa" / "registry" / "000001.json").write_bytes(b"{")
    ipa("store", "repair")
    left = Registry(folder / ".ipa").state()
    assert set(left.adapters) == set(state.adapters) - {first}
    assert [event for event in state.decisions if event.adapter != first] == list(left.decisions)
