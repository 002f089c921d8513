"""A disk that fails at any operation: one sentence, nothing half, and the same work goes on to the same end."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from storage import Action, ActionResult, Blob, Store, StoreError
from storage.digest import digest_bytes
from storage.maintenance import verify
from storage.registry import Registry
from storage.reviews import Review, Reviews
from storage.shards import ShardWriter
from tests.faults import failing
from tests.storage.test_registry import registered

REVIEW = Review(candidate=digest_bytes(b"video"), verdict="accept", by="anna", at="2026-11-01T00:00:00.000000+00:00")
FAULTS = {
    "full": {"error": errno.ENOSPC, "lasting": True},
    "broken": {"error": errno.EIO, "reads": True},
    "read-only": {"error": errno.EROFS, "lasting": True},
}


def work(address: Path) -> None:
    """Write each kind of file once, whatever of it is there already."""
    store = Store(address)
    data = b"pose" * 100
    result = ActionResult(
        Action("poses", 1, {}, {}), "done", None, {}, {"pose": Blob(store.objects.put(data), len(data))}
    )
    store.actions.commit(result)
    for step in (1, 2, 3):
        store.checkpoints.save("training", step, b"state %d" % step)
    entry = registered("a")
    Registry(address).append(lambda state: None if state.knows(entry) else entry)
    reviews = Reviews(address)
    if REVIEW not in reviews.history(REVIEW.candidate):
        reviews.add(REVIEW)
    store.objects.export(digest_bytes(data), "runs/one/lora/weights", link=True)
    store.folder.write("runs/one/run.json", b"{}")
    with ShardWriter(address / "runs" / "one" / "shards", 1) as writer:
        writer.write("one", {"mp4": b"video"}, {})
    store.objects.delete(store.objects.put(b"not needed"))


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    work(folder / "store")
    return folder / "store"


def operations(folder: Path, reads: bool) -> int:
    with failing(folder, 0, reads=reads) as disk:
        work(folder)
    return disk.count


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_fails_the_same_work_comes_to_the_same_end(
    fault: str, step: int, reference: Path, tmp_path: Path
) -> None:
    """The operations that fail are every one of the slow test, and every seventh of the other."""
    about = FAULTS[fault]
    count = operations(tmp_path / "counted", bool(about.get("reads")))
    assert count > 60
    for number in range(1, count + 1, step):
        store = tmp_path / str(number)
        with failing(store, number, **about) as disk:  # type: ignore[arg-type]
            try:
                work(store)
            except StoreError as error:
                assert "\n" not in str(error)
        assert disk.failed
        if store.exists():
            found = verify(Store(store))
            assert (found.corrupt, found.damaged, found.incomplete) == ((), (), ()), number
        work(store)
        assert files(store) == files(reference), number
