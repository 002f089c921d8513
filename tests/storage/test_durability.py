"""The view of other processes while one process writes, is killed, or has no room."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import takewhile
from pathlib import Path

import pytest

from storage import Action, ActionResult, Blob, MissingObject, ObjectStore, Store, StoreError
from storage.digest import digest_bytes
from storage.shards import ShardWriter
from tests.storage.test_shards import names
from tests.storage.test_shards import write as write_shards

ROOT = Path(__file__).parents[2]

_WRITES_FOR_EVER = """
import itertools, sys
from storage import Action, ActionResult, Blob, Store
store = Store(sys.argv[1])
for number in itertools.count():
    data = b"%d" % number * 100_000
    digest = store.objects.put(data)
    action = Action("poses", 1, {"number": number}, {})
    store.actions.commit(ActionResult(action, "done", None, {}, {"pose": Blob(digest, len(data))}))
    store.checkpoints.save("run", number, data)
    print(number, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.007])
def test_all_that_is_seen_after_a_kill_is_whole(tmp_path, delay):
    writer = subprocess.Popen([sys.executable, "-c", _WRITES_FOR_EVER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
    with writer:
        said = [int(writer.stdout.readline()) for _ in range(3)][-1]
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        said = max([said, *(int(line) for line in writer.stdout)])
    store = Store(tmp_path)
    for digest, _ in store.objects.all():
        store.objects.get(digest)
    results = list(store.actions.all("poses"))
    assert len(results) >= said + 1
    assert not store.objects.missing(result.outputs["pose"].digest for result in results)
    assert store.checkpoints.load("run")[0] >= said


_KILLED_AMONG_SHARDS = """
import os, signal, sys
from pathlib import Path
from tests.storage.test_shards import SAMPLES
from storage.shards import ShardWriter
with ShardWriter(Path(sys.argv[1]), 2) as writer:
    for sample in SAMPLES[:3]:
        writer.write(*sample)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_shards_after_a_kill_are_those_of_an_uninterrupted_run(tmp_path):
    killed = subprocess.run([sys.executable, "-c", _KILLED_AMONG_SHARDS, tmp_path / "killed"], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert all(name.startswith(".") for name in names(tmp_path / "killed"))
    assert write_shards(tmp_path / "killed") == write_shards(tmp_path / "whole")
    assert names(tmp_path / "killed") == names(tmp_path / "whole")


def _commit(address: Path, data: bytes, meet) -> ActionResult:
    store = Store(address)
    result = ActionResult(
        Action("poses", 1, {}, {}), "done", None, {}, {"pose": Blob(store.objects.put(data), len(data))}
    )
    meet.wait(60)
    return store.actions.commit(result)


def test_of_two_that_commit_at_once_one_stands_and_both_get_it(tmp_path):
    with multiprocessing.get_context("spawn").Manager() as manager:
        meet = manager.Barrier(2)
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            one, other = pool.map(_commit, [tmp_path] * 2, [b"one", b"other"], [meet] * 2)
    assert one == other == Store(tmp_path).actions.get("poses", one.key)


def _open_missing(address: Path) -> bytes:
    return ObjectStore(address).get(digest_bytes(b"absent"))


def test_a_missing_object_is_said_across_processes(tmp_path):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked = pool.submit(_open_missing, tmp_path)
        with pytest.raises(MissingObject) as raised:
            asked.result()
    assert raised.value.digest == digest_bytes(b"absent")


@pytest.fixture
def little_room():
    """Files of this process can have 64 kB only, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_is_one_sentence_and_leaves_nothing(tmp_path, little_room):
    objects = ObjectStore(tmp_path)
    with pytest.raises(StoreError, match=r"can't write .*objects.*: File too large"):
        objects.put(bytes(100_000))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_no_room_for_a_shard_is_one_sentence_and_leaves_nothing(tmp_path, little_room):
    too_large = pytest.raises(StoreError, match=r"can't write .*000000\.tar.*: File too large")
    with too_large, ShardWriter(tmp_path, 10) as writer:
        writer.write("a", {"mp4": bytes(100_000)}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def read_only(tmp_path):
    """A store that this process can read but not write."""
    Store(tmp_path / "store").objects.put(b"there")
    for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:  # File modes do not bind root.
        closed = takewhile(lambda path: not path.stat().st_mode & 0o001, (tmp_path, *tmp_path.parents))
        for path in list(closed):
            path.chmod(0o755)
        os.seteuid(65534)
    yield tmp_path / "store"
    if os.getuid() == 0:
        os.seteuid(0)
    for path in (tmp_path / "store").rglob("*"):
        path.chmod(0o755)
    (tmp_path / "store").chmod(0o755)


def test_a_read_only_store_can_be_read(read_only):
    objects = Store(read_only).objects
    assert objects.get(objects.put(b"there")) == b"there"


def test_writing_to_a_read_only_store_is_one_sentence(read_only):
    store = Store(read_only)
    with pytest.raises(StoreError, match=r"can't write .*objects.*: Permission denied"):
        store.objects.put(b"new")
    with pytest.raises(StoreError, match=r"can't write .*actions.*: Permission denied"):
        store.actions.commit(ActionResult(Action("poses", 1, {}, {}), "rejected", "no person", {}))


def test_a_file_in_the_place_of_the_store_is_one_sentence(tmp_path):
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(StoreError, match=r"can't \w+ .*store.*: (Not a directory|File exists)"):
        Store(tmp_path / "store")


def test_importing_storage_loads_nothing_heavy():
    code = (
        "import sys, storage; print({'numpy', 'torch', 'pyarrow', 'fsspec', 'prefect', 'pydantic'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
