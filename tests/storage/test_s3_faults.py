"""A server of the S3 protocol that fails: errors, latency, connections that end, a restart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage import Action, ActionResult, Blob, Store, StoreError
from storage.maintenance import verify
from tests.s3_proxy import Trouble, forget_connections, proxy
from tests.storage.test_log import Note, log, texts

TROUBLES = {
    "20 % of errors": {"errors": 0.2},
    "connections end": {"resets": 0.1},
    "200 ms": {"seconds": 0.2},
    "a restart": {"down": True},
}


@pytest.fixture
def trouble(s3_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    """The trouble of a proxy, through which this process reaches the server from now on."""
    with proxy(s3_server) as (address, trouble):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        forget_connections()
        yield trouble
        trouble.errors = trouble.resets = trouble.seconds = 0.0
        trouble.down = False
        forget_connections()


def commit(store: Store, number: int) -> str:
    data = b"pose %d" % number
    blob = Blob(store.objects.put(data), len(data))
    return store.actions.commit(
        ActionResult(Action("poses", 1, {"number": number}, {}), "done", None, {}, {"pose": blob})
    ).key


@pytest.mark.slow
@pytest.mark.parametrize("kind", TROUBLES)
def test_nothing_is_lost_or_done_twice(kind: str, bucket: str, trouble: Trouble) -> None:
    store = Store(bucket)
    for name, value in TROUBLES[kind].items():
        setattr(trouble, name, value)
    if kind == "a restart":
        threading.Timer(3.0, lambda: setattr(trouble, "down", False)).start()
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda number: commit(store, number), range(16)))
        list(pool.map(lambda number: log(bucket).append("", 1, Note(text=str(number))), range(6)))
    assert set(store.actions.lookup("poses", keys)) == set(keys)
    assert sorted(texts(bucket)) == [str(number) for number in range(6)]
    found = verify(store)
    assert (found.objects, found.corrupt, found.damaged, found.incomplete) == (16, (), (), ())


def test_a_server_that_stays_down_is_one_sentence(
    bucket: str, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = Store(bucket)
    trouble.errors = 1.0
    with pytest.raises(StoreError, match=rf"^can't read {bucket}/objects/[^\n]+$"):
        commit(store, 1)
