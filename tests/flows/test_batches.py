"""How items become batches, and who is blamed for a worker that died."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.engine.batches import Batches
from flows.engine.stage import Item, Place, RunStopped
from flows.engine.work import BATCH_LIMIT, DIED, Batch, Listener, Loss, Outcome, Silent, WorkersLost
from flows.stages.poses import Poses
from storage import Action, ActionResult, Store

POSES = Poses()


class FakeCrew:
    """Each item takes ``seconds``, as its provenance says; a batch with an item in ``deadly`` is lost."""

    def __init__(self, *, slots: int = 1, limit: int | None = BATCH_LIMIT, seconds: float = 1.0) -> None:
        self._slots, self._limit, self._seconds = slots, limit, seconds
        self.batches: list[Batch] = []
        self.deadly: set[str] = set()
        self.loss = Loss.FAILED
        self.losses = -1
        """Number of batches that are lost; -1 means all with a deadly item."""
        self.elsewhere: set[str] = set()
        """Items that another run has under way when they are given first."""
        self.before_death: Callable[[Batch], None] = lambda batch: None

    def prepare(self, place: Place) -> None: ...

    def slots(self, place: Place) -> int:
        return self._slots

    def limit(self, place: Place) -> int | None:
        return self._limit

    def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
        self.batches.append(batch)
        if self.losses and self.deadly & {item.name for item in batch.items}:
            self.losses -= 1
            self.before_death(batch)
            raise WorkersLost(DIED, self.loss)
        outcomes = [self._outcome(item) for item in batch.items]
        for outcome in outcomes:
            listener.done(outcome)
        return outcomes

    def _outcome(self, item: Item) -> Outcome:
        if item.name in self.elsewhere:
            self.elsewhere.remove(item.name)
            return Outcome(item.action.key, elsewhere=True)
        return Outcome(item.action.key, result(item, self._seconds))

    def end_stage(self) -> None: ...

    def close(self) -> None: ...


def items(count: int) -> list[Item]:
    return [Item(f"clip {number}", Action("poses", 1, {"number": number}, {})) for number in range(count)]


def result(item: Item, seconds: float = 1.0) -> ActionResult:
    return ActionResult(item.action, "done", None, {}, {}, {"seconds": seconds})


def compute(crew: FakeCrew, count: int, folder: Path, batch_minutes: float = 10.0) -> list[Outcome]:
    return Batches(Store(folder), crew, batch_minutes).compute(POSES, items(count), False, Silent())


def sizes(crew: FakeCrew) -> list[int]:
    return [len(batch.items) for batch in crew.batches]


def test_one_item_is_measured_then_batches_take_as_long_as_asked(tmp_path: Path) -> None:
    crew = FakeCrew(seconds=60.0)
    compute(crew, 25, tmp_path, batch_minutes=10)
    assert sizes(crew) == [1, 10, 10, 4]


def test_a_batch_has_64_items_at_most(tmp_path: Path) -> None:
    crew = FakeCrew(seconds=0.001)
    compute(crew, 200, tmp_path)
    assert max(sizes(crew)) == BATCH_LIMIT


def test_items_are_shared_evenly_between_slots(tmp_path: Path) -> None:
    crew = FakeCrew(slots=4, seconds=0.001)
    compute(crew, 44, tmp_path)
    # No slot gets all that is left while the others stand idle.
    assert max(sizes(crew)) <= 11


def test_every_slot_measures_an_item_first(tmp_path: Path) -> None:
    crew = FakeCrew(slots=3, seconds=3600.0)
    compute(crew, 6, tmp_path)
    assert sizes(crew) == [1] * 6


def test_without_a_limit_everything_goes_at_once(tmp_path: Path) -> None:
    crew = FakeCrew(limit=None)
    compute(crew, 200, tmp_path)
    assert sizes(crew) == [200]


def test_labels_count_the_batches(tmp_path: Path) -> None:
    crew = FakeCrew(seconds=60.0)
    compute(crew, 25, tmp_path)
    assert [batch.label for batch in crew.batches][1:] == [f"poses: batch {number} of 4" for number in (2, 3, 4)]


def test_a_single_batch_is_named_after_its_first_item(tmp_path: Path) -> None:
    crew = FakeCrew(limit=None)
    compute(crew, 3, tmp_path)
    assert [batch.label for batch in crew.batches] == ["poses: clip 0 and 2 more"]


def test_who_killed_the_worker_is_found_by_giving_each_item_alone(tmp_path: Path) -> None:
    crew = FakeCrew()
    crew.deadly = {"clip 2"}
    outcomes = {outcome.key: outcome for outcome in compute(crew, 5, tmp_path)}
    assert [outcomes[item.action.key].error for item in items(5)] == [None, None, DIED, None, None]


def test_what_was_committed_before_the_worker_died_is_not_computed_again(tmp_path: Path) -> None:
    crew = FakeCrew()
    crew.deadly = {"clip 2"}
    crew.before_death = lambda batch: (
        [Store(tmp_path).actions.commit(result(item)) for item in batch.items[:1]] and None
    )
    compute(crew, 5, tmp_path)
    assert given(crew) == [["clip 0"], ["clip 1", "clip 2", "clip 3", "clip 4"], ["clip 3", "clip 4"], ["clip 2"]]


def given(crew: FakeCrew) -> list[list[str]]:
    return [[item.name for item in batch.items] for batch in crew.batches]


def named(outcomes: list[Outcome]) -> list[str]:
    """Names of the items that failed."""
    keys = {item.action.key: item.name for item in items(9)}
    return [keys[outcome.key] for outcome in outcomes if outcome.error is not None]


def test_an_item_is_to_blame_when_it_loses_its_worker_every_time(tmp_path: Path) -> None:
    crew = FakeCrew()
    crew.deadly, crew.loss = {"clip 1"}, Loss.KILLED
    assert named(compute(crew, 3, tmp_path)) == ["clip 1"]
    assert given(crew) == [["clip 0"], ["clip 1", "clip 2"], ["clip 2"], *3 * [["clip 1"]]]


def test_an_item_is_not_to_blame_when_somebody_kills_workers_beside_it(tmp_path: Path) -> None:
    crew = FakeCrew()
    crew.deadly, crew.loss, crew.losses = {"clip 1"}, Loss.KILLED, 3
    assert named(compute(crew, 3, tmp_path)) == []


def test_an_item_that_hangs_is_not_given_again(tmp_path: Path) -> None:
    crew = FakeCrew()
    crew.deadly, crew.loss = {"clip 1"}, Loss.HUNG
    assert named(compute(crew, 3, tmp_path)) == ["clip 1"]
    assert given(crew) == [["clip 0"], ["clip 1", "clip 2"], ["clip 2"]]


def test_a_worker_that_is_killed_before_it_begins_blames_nobody(tmp_path: Path) -> None:
    crew = FakeCrew()
    crew.deadly, crew.loss, crew.losses = {"clip 1"}, Loss.UNBEGUN, 7
    assert named(compute(crew, 3, tmp_path)) == []


def test_workers_that_never_begin_end_the_run_with_a_sentence(tmp_path: Path) -> None:
    crew = FakeCrew()
    crew.deadly, crew.loss = {"clip 1"}, Loss.UNBEGUN
    with pytest.raises(RunStopped, match="50 worker processes of poses were killed one after the other before they"):
        compute(crew, 3, tmp_path)


def test_the_result_of_another_run_is_taken(tmp_path: Path) -> None:
    crew = FakeCrew(slots=1, limit=None)
    crew.elsewhere = {"clip 1"}
    Store(tmp_path).actions.commit(result(items(3)[1], seconds=7.0))
    outcomes = {outcome.key: outcome for outcome in compute(crew, 3, tmp_path)}
    found = outcomes[items(3)[1].action.key]
    assert found.result is not None
    assert (found.elsewhere, found.result.provenance["seconds"]) == (True, 7.0)


def test_what_another_run_gave_up_is_computed(tmp_path: Path) -> None:
    crew = FakeCrew(slots=1, limit=None)
    crew.elsewhere = {"clip 1"}
    assert len(compute(crew, 3, tmp_path)) == 3
    assert given(crew) == [["clip 0", "clip 1", "clip 2"], ["clip 1"]]


def test_the_lease_of_a_worker_that_died_on_another_machine_keeps_nobody_waiting(tmp_path: Path) -> None:
    crew = FakeCrew(slots=1, limit=None)
    crew.deadly = {"clip 0"}
    store = Store(tmp_path)
    lease = tmp_path / "leases" / f"{items(1)[0].action.key}.json"

    def die(batch: Batch) -> None:
        lease.parent.mkdir(exist_ok=True)
        lease.write_text('{"place": "another machine", "process": 1}')

    crew.before_death = die
    crew.losses = 1
    assert named(compute(crew, 3, tmp_path)) == []
    assert store.leases.is_free(items(1)[0].action.key)


def test_a_run_waits_as_long_as_another_has_an_item_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crew = FakeCrew(slots=1, limit=None)
    crew.elsewhere = {"clip 1"}
    item = items(3)[1]
    lease = Store(tmp_path).leases.claimed(item.action.key)
    lease.__enter__()
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            Store(tmp_path).actions.commit(result(item))
            lease.__exit__(None, None, None)

    monkeypatch.setattr("flows.engine.batches.time.sleep", sleep)
    compute(crew, 3, tmp_path)
    assert (len(waits), given(crew)) == (3, [["clip 0", "clip 1", "clip 2"]])


@pytest.mark.parametrize("slots", [1, 2])
def test_an_error_of_the_crew_ends_the_run(slots: int, tmp_path: Path) -> None:
    class Broken(FakeCrew):
        def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
            raise ConnectionError("the cluster is gone")

    with pytest.raises(ConnectionError, match="the cluster is gone"):
        compute(Broken(slots=slots), 5, tmp_path)
