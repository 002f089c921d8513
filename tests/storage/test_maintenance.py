import os
import time

import pytest

from storage import Action, ActionResult, Blob, Store
from storage.digest import digest_bytes
from storage.folders import temporary_for
from storage.maintenance import IncompleteAction, StoreStat, drop, gc, stat, verify
from tests.storage.test_objects import damage


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def commit(store: Store, data: bytes) -> ActionResult:
    action = Action("poses", 1, {}, {"video": digest_bytes(data)})
    return store.actions.commit(
        ActionResult(action, "done", None, {}, {"pose": Blob(store.objects.put(data), len(data))})
    )


def make_old(store: Store) -> None:
    for path in store.address.rglob("*"):
        os.utime(path, (time.time() - 7200,) * 2)


def test_stat_counts(address):
    store = Store(address)
    commit(store, b"one")
    commit(store, b"three")
    assert stat(store) == StoreStat(objects=2, bytes=8, actions={"poses": 2}, quarantined=0)


def test_an_intact_store_is_verified(address):
    store = Store(address)
    commit(store, b"one")
    commit(store, b"three")
    seen = []
    report = verify(store, lambda done, total: seen.append((done, total)))
    assert (report.objects, report.corrupt, report.incomplete) == (2, (), ())
    assert seen[-1] == (8, 8)


def test_verify_finds_damage_and_what_it_hits(store):
    result = commit(store, b"some bytes")
    commit(store, b"other bytes")
    digest = result.outputs["pose"].digest
    damage(store.objects.path(digest))
    report = verify(store)
    assert report.corrupt == (digest,)
    assert report.incomplete == (IncompleteAction("poses", result.key, ("pose",)),)
    assert stat(store).quarantined == 1


def test_gc_drops_what_nothing_names(store):
    result = commit(store, b"referenced")
    kept, unreferenced = store.objects.put(b"kept"), store.objects.put(b"unreferenced")
    make_old(store)
    assert gc(store, {kept}).bytes == len(b"unreferenced")
    assert not store.objects.has(unreferenced)
    assert not store.objects.missing([kept, result.outputs["pose"].digest])


def test_gc_spares_what_may_be_about_to_be_committed(store):
    fresh, put_again = store.objects.put(b"fresh"), store.objects.put(b"put again")
    make_old(store)
    store.objects.put(b"put again")
    store.objects.delete(fresh)
    store.objects.put(b"fresh")
    assert gc(store, set()).objects == 0
    assert not store.objects.missing([fresh, put_again])


def test_gc_removes_what_killed_processes_left(store):
    left = temporary_for(store.objects.path(store.objects.put(b"whole")))
    left.write_bytes(b"half")
    make_old(store)
    fresh = temporary_for(left)
    fresh.write_bytes(b"being written")
    gc(store, set())
    assert (left.exists(), fresh.exists()) == (False, True)


def test_what_was_dropped_leaves_its_result(store):
    result = commit(store, b"latents")
    removed = drop(store, [result.outputs["pose"].digest, digest_bytes(b"absent")])
    assert (removed.objects, removed.bytes) == (1, 7)
    assert store.actions.get("poses", result.key) == result
    assert stat(store).objects == 0
