"""What `ipa store gc` keeps and removes. `tests/storage/test_collection.py` has results and objects alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.engine.inputs import RunInputs
from flows.engine.run_folder import RunFolder, runs
from flows.engine.stage import Item, ItemResult
from flows.engine.status import last_runs
from flows.engine.summary import RunProgress
from flows.engine.view import Results, View
from flows.engine.walk import Scope, nothing_to_compute
from flows.outcomes.retention import Found, Policy, collect, find_garbage
from flows.stages import STAGES
from ipa_core.config import RunConfig
from ipa_core.records import Verdict
from storage import Action, ActionResult, Blob, Store, StoreError
from storage.digest import digest_bytes
from storage.maintenance import verify
from storage.registry import Lineage, Registered, Registry
from storage.reviews import Review, Reviews
from tests.fakes import FAKES, fake_config
from tests.flows.conftest import run_fake, whole_run
from tests.flows.test_cli import call

ROOT = Path(__file__).parents[2]
LAST_ONLY = Policy(runs=1, days=0)


def made(store: Store, number: int) -> ActionResult:
    """A result that has read one object and made one."""
    inputs = {"video": store.objects.put(b"clip %d" % number)}
    pose = store.objects.put(b"pose %d" % number)
    action = Action("poses", 1, {"number": number}, inputs)
    return store.actions.commit(ActionResult(action, "done", None, {}, {"pose": Blob(pose, store.objects.size(pose))}))


def objects_of(result: ActionResult) -> set[str]:
    return {*result.action.inputs.values(), *(blob.digest for blob in result.outputs.values())}


def days_ago(days: float, number: int = 0) -> str:
    """The id of a run."""
    return f"{datetime.now(UTC) - timedelta(days=days, seconds=-number):%Y%m%d-%H%M%S}-{number:04x}"


def record_run(
    store: Store, run_id: str, results: Sequence[ActionResult], *, name: str = "dance", status: str | None = "completed"
) -> RunFolder:
    """The record of a run that has computed these results; ``status`` None: it goes on."""
    folder = RunFolder(store, run_id)
    folder.write("config.yaml", f"name: {name}\n".encode())
    entries = [ItemResult(Item(result.key[:6], result.action), "computed", result) for result in results]
    folder.write_items(Results({"poses": entries}))
    folder.write("report.html", run_id.encode())
    if status is not None:
        folder.write_json("run.json", {"status": status, "stages": [], "error": None, "outputs": {}, "dropped": []})
    return folder


def make_old(store: Store, days: float = 1) -> None:
    for path in Path(store.address).rglob("*"):
        os.utime(path, (time.time() - days * 86400,) * 2)


def make_old_runs(folder: Path, days: float = 1) -> None:
    """Let days pass for a store with real runs."""
    store = Store(folder / "store")
    for number, run in enumerate(list(runs(store))[::-1]):
        Path(run.address()).rename(Path(store.address) / "runs" / days_ago(days, number))
    make_old(store, days)


def collected(store: Store, policy: Policy) -> Found:
    found = find_garbage(store, policy)
    collect(store, found)
    return found


def kept(store: Store) -> list[str]:
    return [run.run_id for run in runs(store)][::-1]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_the_last_runs_of_each_config_stay(store: Store) -> None:
    for number, name in enumerate(("dance", "dance", "dance", "walk")):
        record_run(store, days_ago(90, number), [made(store, number)], name=name)
    make_old(store)
    before = kept(store)
    collected(store, Policy(runs=2, days=30))
    assert kept(store) == before[1:]
    assert store.objects.missing(objects_of(made(Store(store.address), 1))) == set()


def test_runs_that_did_not_come_to_their_end_push_no_other_out(store: Store) -> None:
    record_run(store, days_ago(90), [made(store, 0)])
    for number in range(1, 4):
        record_run(store, days_ago(90, number), [], status="failed")
    make_old(store)
    before = kept(store)
    collected(store, LAST_ONLY)
    assert kept(store) == [before[0], before[3]]


def test_a_sweep_pushes_no_other_run_out(store: Store) -> None:
    record_run(store, days_ago(90), [made(store, 0)])
    for number in range(1, 4):
        record_run(store, days_ago(90, number), [made(store, number)]).mark_experiment()
    make_old(store)
    before = kept(store)
    collected(store, LAST_ONLY)
    assert kept(store) == [before[0], before[3]]


def test_a_champions_run_and_those_of_its_generators_stay(store: Store) -> None:
    for number in range(4):
        record_run(store, days_ago(90, number), [made(store, number)])
    first, second, third, last = kept(store)
    for run, adapter, generator in ((first, "a", None), (second, "b", "a"), (third, "c", None)):
        entry = registered(run, adapter, generator)
        Registry(store.address).append(lambda state, entry=entry: entry)
    Registry(store.address).promote(digest_bytes(b"b"), "anna", "good", "2026-01-01T00:00:00+00:00")
    make_old(store)
    found = collected(store, LAST_ONLY)
    assert kept(store) == [first, second, last]
    assert {one.folder.run_id for one in found.kept if one.why == "of a champion"} == {first, second}


def registered(run: str, adapter: str, generator: str | None, *made: ActionResult) -> Registered:
    about = [digest_bytes(name.encode()) for name in ("scores", "samples", "selection", "finetune")]
    if made:
        about[2:] = [made[0].key, made[0].key]
    return Registered(
        at="2026-01-01T00:00:00+00:00",
        run=run,
        adapter=digest_bytes(adapter.encode()),
        files={f"{number}": blob.digest for number, one in enumerate(made) for blob in one.outputs.values()},
        lineage=Lineage(
            model=digest_bytes(b"model"),
            generator=None if generator is None else digest_bytes(generator.encode()),
            scores=about[0],
            samples=about[1],
            shards={},
            selection=about[2],
            finetune=about[3],
            config={},
        ),
        metrics={},
        trained_on=(),
        held_out=(),
    )


def test_a_run_of_another_machine_that_goes_on_keeps_what_it_uses(store: Store) -> None:
    going_on = record_run(store, days_ago(40), [made(store, 0)], status=None)
    going_on.write_progress(RunProgress((), None, None, at=time.time() - 86400, host="elsewhere", process=1))
    killed = record_run(store, days_ago(39), [made(store, 1)], status=None)
    killed.write_progress(RunProgress((), None, None, at=time.time() - 9 * 86400, host="elsewhere", process=1))
    stays = record_run(store, days_ago(38), [made(store, 2)])
    make_old(store)
    collected(store, LAST_ONLY)
    assert kept(store) == [going_on.run_id, stays.run_id]
    assert going_on.keys() <= set(store.actions.keys("poses"))


def test_stale_leases_and_old_quarantine_go_and_the_dry_run_keeps_them(store: Store) -> None:
    old, young = (f"leases/{digest_bytes(name)}.json" for name in (b"dead", b"alive"))
    damaged, fresh = (f"quarantine/{digest_bytes(name)}" for name in (b"once", b"today"))
    for name in (old, damaged):
        store.folder.write(name, b"{}")
    make_old(store, days=31)
    store.folder.write(young, b"{}")
    store.folder.write(fresh, b"bytes")
    found = find_garbage(store, Policy())
    kinds = {kind.kind: kind.names for kind in found.garbage if kind.names}
    assert kinds == {"stale leases": (old,), "quarantine": (damaged,)}
    assert store.folder.read(old) and store.folder.read(damaged)
    collect(store, found)
    assert [*store.folder.names("leases"), *store.folder.names("quarantine")] == [young, fresh]


def test_an_old_object_that_is_found_damaged_today_stays_in_quarantine(store: Store) -> None:
    digest = store.objects.put(b"whole")
    Path(store.folder.address(f"objects/{digest[:2]}/{digest[2:]}")).write_bytes(b"other")
    make_old(store, days=31)
    assert verify(store).corrupt == (digest,)
    collected(store, Policy())
    assert store.objects.quarantined() == [digest]


def test_a_lease_that_is_taken_during_a_collection_stays(store: Store) -> None:
    name = f"leases/{digest_bytes(b'dead')}.json"
    store.folder.write(name, b"{}")
    make_old(store)
    found = find_garbage(store, Policy())
    store.folder.write(name, b"{} of another process")
    collect(store, found)
    assert list(store.folder.names("leases")) == [name]


def test_a_run_records_what_it_uses_before_it_computes(folder: Path) -> None:
    held: list[set[str]] = []

    class Looking(type(STAGES[2])):  # type: ignore[misc]
        def compute(self, item: Item, worker: object) -> object:
            held.append(next(runs(Store(folder / "store"))).keys())
            return super().compute(item, worker)

    stages = [Looking() if stage.name == "candidates" else stage for stage in STAGES]
    from flows.engine.run import Run

    with Run(fake_config(folder, candidates__seed=5), stages, FAKES, Scope(last="candidates"), quiet=True) as run:
        run.walk()
    run.check()
    entries = run.view.results
    assert held[0] == {one.item.action.key for stage in ("clips", "poses", "candidates") for one in entries[stage]}


@pytest.mark.parametrize(("verdict", "stays"), [("accept", True), ("reject", True), (None, False)])
def test_what_a_review_decided_stays(store: Store, verdict: Verdict | None, stays: bool) -> None:
    candidate = made(store, 0)
    video = candidate.outputs["pose"].digest
    score = Action("scores", 1, {}, {"candidate": video})
    store.actions.commit(ActionResult(score, "done", None, {}, {}))
    Reviews(store.address).add(
        Review(candidate=video, verdict=verdict, by="anna", at="2026-01-01T00:00:00.000000+00:00")
    )
    make_old(store)
    collected(store, LAST_ONLY)
    assert (store.actions.get("poses", candidate.key) is not None) == stays
    assert (store.actions.get("scores", score.key) is not None) == stays
    assert store.objects.missing(objects_of(candidate)) == (set() if stays else objects_of(candidate))


def test_reports_checkpoints_and_logs_of_what_went_go(store: Store) -> None:
    gone, stays = made(store, 0), made(store, 1)
    for number, result in enumerate((gone, stays)):
        run = record_run(store, days_ago(90, number), [result])
        store.folder.write(f"reports/{digest_bytes(b'%d' % number)}.page", b"<html>" * (number + 1))
        run.write("report.html", b"<html>" * (number + 1))
        store.folder.write(f"tensorboard/{result.key}/events", b"steps")
        store.checkpoints.save(result.key, 10, b"a state")
    store.checkpoints.save("goes-on", 10, b"a state")
    make_old(store)
    for key in (gone.key, "goes-on"):
        for name in store.folder.names(f"tensorboard/{key}"):
            os.utime(Path(store.address) / name, (time.time() - 60 * 86400,) * 2)
    for result in (gone, stays):  # They were committed after the last state.
        os.utime(
            Path(store.address, "actions", "poses", result.key[:2], f"{result.key}.json"), (time.time() - 7200,) * 2
        )
    found = collected(store, LAST_ONLY)
    assert {kind.kind: kind.count for kind in found.garbage if kind.count} == {
        "runs": 1, "reports": 2, "checkpoints": 2, "training logs": 1, "results": 1, "objects": 2,
    }  # fmt: skip
    assert not list(store.folder.names("reports"))
    assert store.folder.folders("tensorboard") == [stays.key]
    assert store.folder.folders("checkpoints") == ["goes-on"]


def test_a_state_of_a_training_that_is_repeated_stays(store: Store) -> None:
    result = made(store, 0)
    record_run(store, days_ago(0), [result])
    make_old(store)
    store.checkpoints.save(result.key, 10, b"a state")
    [name] = store.folder.names("checkpoints")
    os.utime(Path(store.address) / name, (time.time() - 7200,) * 2)
    collected(store, LAST_ONLY)
    assert store.checkpoints.load(result.key) == (10, b"a state")


def test_a_folder_that_is_not_named_as_runs_are_stays(store: Store) -> None:
    store.folder.write("runs/my-notes/notes.txt", b"mine")
    make_old(store)
    collected(store, LAST_ONLY)
    assert store.folder.read("runs/my-notes/notes.txt") == b"mine"


def test_a_run_keeps_the_files_that_it_shares_with_a_run_that_goes(store: Store) -> None:
    old, new = (record_run(store, days_ago(90, number), []) for number in range(2))
    old.write("lora/weights", b"weights")
    assert new.take(f"runs/{old.run_id}/lora/weights", "lora/weights")
    make_old(store)
    collected(store, LAST_ONLY)
    assert kept(store) == [new.run_id]
    assert store.folder.read(f"runs/{new.run_id}/lora/weights") == b"weights"


@pytest.mark.parametrize("name", ["run.json", "items.parquet", "config.yaml"])
def test_a_run_that_is_damaged_stops_it_with_one_sentence(store: Store, name: str) -> None:
    record_run(store, days_ago(90), [made(store, 0)]).write(name, b"{[ of nobody")
    record_run(store, days_ago(90, 1), [made(store, 1)])
    make_old(store)
    before = sorted(store.folder.names())
    with pytest.raises(StoreError, match=rf"{name} is damaged; `ipa store repair` forgets it"):
        find_garbage(store, Policy(runs=9, days=0))
    assert sorted(store.folder.names()) == before


# Whole stores.


@dataclass(frozen=True)
class Past:
    """A run of the past."""

    name: str
    days: int
    status: str | None
    results: frozenset[int]
    registers: bool
    experiment: bool


_PAST = st.builds(
    Past,
    name=st.sampled_from(["dance", "walk"]),
    days=st.integers(1, 60),
    status=st.sampled_from(["completed", "completed", "nothing_new", "failed", None]),
    results=st.frozensets(st.integers(0, 5), max_size=4),
    registers=st.booleans(),
    experiment=st.booleans(),
)


@settings(max_examples=12, deadline=None)
@given(
    past=st.lists(_PAST, max_size=7),
    champion=st.integers(0, 6),
    judged=st.frozensets(st.integers(0, 5), max_size=2),
    policy=st.builds(Policy, runs=st.integers(1, 3), days=st.integers(0, 40)),
)
def test_everything_promised_is_there_and_verifies(
    tmp_path_factory: pytest.TempPathFactory, past: list[Past], champion: int, judged: frozenset[int], policy: Policy
) -> None:
    store = Store(tmp_path_factory.mktemp("store") / "store")
    results = [made(store, number) for number in range(6)]
    folders: list[tuple[Past, RunFolder]] = []
    entries: list[Registered] = []
    registry = Registry(store.address)
    for number, one in enumerate(sorted(past, key=lambda one: -one.days)):
        own = [results[index] for index in sorted(one.results)]
        folder = record_run(store, days_ago(one.days, number), own, name=one.name, status=one.status)
        if one.experiment:
            folder.mark_experiment()
        folders.append((one, folder))
        if one.registers and own:
            generator = str(len(entries) - 1) if entries else None
            entries.append(registered(folder.run_id, str(len(entries)), generator, own[0]))
            registry.append(lambda state, entry=entries[-1]: entry)
    if champion < len(entries):
        registry.promote(entries[champion].adapter, "anna", "good", "2026-01-01T00:00:00+00:00")
    for number in judged:
        video = results[number].outputs["pose"].digest
        Reviews(store.address).add(
            Review(candidate=video, verdict="accept", by="anna", at="2026-01-01T00:00:00.000000+00:00")
        )
    make_old(store)
    promised = [folder for one, folder in folders if _is_promised(one, folder, folders, policy)]
    if champion < len(entries):
        promised += [RunFolder(store, entry.run) for entry in entries[: champion + 1]]
    keys = {folder.run_id: folder.keys() for folder in promised}

    collected(store, policy)

    there = set(store.actions.keys("poses"))
    assert {run for run in keys if not keys[run] <= there or RunFolder(store, run).keys() != keys[run]} == set()
    needed = set().union(*(objects_of(one) for one in results if any(one.key in found for found in keys.values())))
    needed |= set().union(*(objects_of(results[number]) for number in judged))
    needed |= registry.state().objects() & {digest for one in results for digest in objects_of(one)}
    assert store.objects.missing(needed) == set()
    report = verify(store)
    assert (report.corrupt, report.incomplete) == ((), ())
    assert find_garbage(store, policy).bytes == 0


def _is_promised(one: Past, folder: RunFolder, folders: list[tuple[Past, RunFolder]], policy: Policy) -> bool:
    """Whether a run is young, goes on, or is among the last of its config that came to their end."""
    ended = ("completed", "nothing_new")
    later = [
        other
        for other, its in folders
        if (other.name, other.experiment) == (one.name, one.experiment)
        and other.status in ended
        and its.run_id > folder.run_id
    ]
    goes_on = one.status is None and one.days < 7
    return one.days < policy.days or goes_on or (one.status in ended and len(later) < policy.runs)


def is_cached(config: RunConfig) -> bool:
    store = Store(str(config.execution.store))
    return nothing_to_compute(View(config, RunInputs(store, config, FAKES)), STAGES, Scope())


def test_a_kept_run_finds_all_cached_and_what_went_is_computed_again(folder: Path) -> None:
    old, new = fake_config(folder), fake_config(folder, candidates__seed=5)
    whole_run(new)
    make_old_runs(folder)
    collected(Store(folder / "store"), LAST_ONLY)
    assert is_cached(new)
    assert not is_cached(old)
    done = run_fake(old)
    assert done.computed()["candidates"] == 2
    assert "clips" not in done.computed()
    assert is_cached(old)
    assert verify(Store(folder / "store")).corrupt == ()


def test_a_run_that_starts_meanwhile_loses_nothing(folder: Path) -> None:
    old = fake_config(folder)
    run_fake(fake_config(folder, candidates__seed=5))
    make_old_runs(folder)
    store = Store(folder / "store")
    found = find_garbage(store, LAST_ONLY)
    computed = []

    def removed(count: int) -> None:
        if count == 1:
            computed.append(run_fake(old).computed())

    collect(store, found, removed)
    assert computed == [{}]
    assert is_cached(old)
    assert verify(store).incomplete == ()


_KILLED = """
import os, signal, sys
from flows.outcomes.retention import Policy, collect, find_garbage
from storage import Store
store = Store(sys.argv[1])
def removed(count):
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
collect(store, find_garbage(store, Policy(runs=1, days=0)), removed)
"""


@pytest.mark.parametrize("after", [2, 5])
def test_after_a_kill_the_runs_are_told_and_the_next_one_ends_it(store: Store, after: int) -> None:
    for number in range(3):
        record_run(store, days_ago(90, number), [made(store, number)])
    make_old(store)
    last = kept(store)[-1]
    command = [sys.executable, "-c", _KILLED, str(store.address), str(after)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    assert {state.state for state in last_runs(store, 10)} == {"completed"}
    assert verify(store).incomplete == ()
    collected(store, LAST_ONLY)
    assert kept(store) == [last]
    assert set(store.actions.keys("poses")) == RunFolder(store, last).keys()


def test_a_store_in_a_bucket_is_collected(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("storage.collection.SPARED_SECONDS", -60.0)
    store = Store(f"{bucket}/store")
    for number in range(2):
        record_run(store, days_ago(90, number), [made(store, number)])
    last = kept(store)[-1]
    found = collected(store, LAST_ONLY)
    assert kept(store) == [last]
    assert set(store.actions.keys("poses")) == RunFolder(store, last).keys()
    assert {kind.kind: kind.count for kind in found.garbage if kind.count} == {"runs": 1, "results": 1, "objects": 2}


# The command.


def gc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Store, *options: str) -> str:
    monkeypatch.setenv("IPA_HOME", str(store.address))
    monkeypatch.setattr("ipa_core.scratch.tempfile.tempdir", str(Path(store.address).parent))
    code, out, _ = call(monkeypatch, capsys, "store", "gc", *options)
    assert code == 0
    return out


def test_without_delete_it_only_shows(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        record_run(store, days_ago(90, number), [made(store, number)])
    make_old(store)
    before = sorted(store.folder.names())
    lines = gc(monkeypatch, capsys, store).splitlines()
    assert lines[0] == "kept runs: 3 (3 last of its config)"
    assert [line.split()[:2] for line in lines[2:5]] == [["runs", "2"], ["results", "2"], ["objects", "4"]]
    assert sorted(store.folder.names()) == before


def test_with_delete_it_says_what_went(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        record_run(store, days_ago(90, number), [made(store, number)])
    make_old(store)
    size = sum(path.stat().st_size for path in Path(store.address).rglob("*") if path.is_file())
    said = json.loads(gc(monkeypatch, capsys, store, "--runs", "1", "--delete", "--json"))
    left = sum(path.stat().st_size for path in Path(store.address).rglob("*") if path.is_file())
    assert (said["deleted"], said["bytes"]) == (True, size - left)
    assert "there is nothing to delete" in gc(monkeypatch, capsys, store, "--runs", "1")


def test_scratch_folders_of_killed_processes_go(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = Path(store.address).parent / "ipa-scratch-left"
    left.mkdir()
    (left / "half").write_bytes(b"half")
    os.utime(left, (time.time() - 3600,) * 2)
    said = json.loads(gc(monkeypatch, capsys, store, "--json"))
    assert (said["scratch"], left.exists()) == ({"count": 1, "bytes": 4}, True)
    gc(monkeypatch, capsys, store, "--delete")
    assert not left.exists()
