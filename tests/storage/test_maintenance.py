import pytest

from storage import Action, ActionResult, Blob, Store
from storage.digest import digest_bytes
from storage.maintenance import IncompleteAction, StoreStat, drop, stat, verify
from tests.storage.test_objects import damage


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def commit(store: Store, data: bytes) -> ActionResult:
    action = Action("poses", 1, {}, {"video": digest_bytes(data)})
    return store.actions.commit(
        ActionResult(action, "done", None, {}, {"pose": Blob(store.objects.put(data), len(data))})
    )


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


def test_what_was_dropped_leaves_its_result(store):
    result = commit(store, b"latents")
    removed = drop(store, [result.outputs["pose"].digest, digest_bytes(b"absent")])
    assert (removed.objects, removed.bytes) == (1, 7)
    assert store.actions.get("poses", result.key) == result
    assert stat(store).objects == 0
