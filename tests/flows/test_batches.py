"""How items become batches, and who is blamed for a worker that died."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.engine.batches import Batches
from flows.engine.stage import Item, Place
from flows.engine.work import BATCH_LIMIT, DIED, Batch, Listener, Outcome, Silent, WorkersLost
from flows.stages.poses import Poses
from storage import Action, ActionResult, Store

POSES = Poses()


class FakeCrew:
    """Each item takes ``seconds``, as its provenance says; a batch with an item in ``deadly`` is lost."""

    def __init__(self, *, slots: int = 1, limit: int | None = BATCH_LIMIT, seconds: float = 1.0) -> None:
        self._slots, self._limit, self._seconds = slots, limit, seconds
        self.batches: list[Batch] = []
        self.deadly: set[str] = set()
        self.before_death: Callable[[Batch], None] = lambda batch: None

    def prepare(self, place: Place) -> None: ...

    def slots(self, place: Place) -> int:
        return self._slots

    def limit(self, place: Place) -> int | None:
        return self._limit

    def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
        self.batches.append(batch)
        if self.deadly & {item.name for item in batch.items}:
            self.before_death(batch)
            raise WorkersLost(DIED)
        outcomes = [Outcome(item.action.key, result(item, self._seconds)) for item in batch.items]
        for outcome in outcomes:
            listener.done(outcome)
        return outcomes

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
    given = [[item.name for item in batch.items] for batch in crew.batches]
    assert given == [["clip 0"], ["clip 1", "clip 2", "clip 3", "clip 4"], ["clip 3", "clip 4"], ["clip 2"]]


@pytest.mark.parametrize("slots", [1, 2])
def test_an_error_of_the_crew_ends_the_run(slots: int, tmp_path: Path) -> None:
    class Broken(FakeCrew):
        def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
            raise ConnectionError("the cluster is gone")

    with pytest.raises(ConnectionError, match="the cluster is gone"):
        compute(Broken(slots=slots), 5, tmp_path)
