"""Cut items into batches by measured time, keep all slots of a crew busy, and find the item that killed a worker."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from statistics import fmean
from typing import Any

from flows.engine.room import check_room
from flows.engine.stage import Item, Stage
from flows.engine.work import Batch, Crew, Listener, Outcome, WorkersLost
from storage import Store


class Batches:
    """Gives each item to the crew once. An item of a batch whose worker died is given once more, alone."""

    def __init__(self, store: Store, crew: Crew, batch_minutes: float) -> None:
        self._store = store
        self._crew = crew
        self._batch_seconds = 60 * batch_minutes

    def compute(self, stage: Stage[Any], items: list[Item], refresh: bool, listener: Listener) -> list[Outcome]:
        """Return one outcome for each item, in any order. Raises ``NoRoom`` when the store's disk is nearly full."""
        self._crew.prepare(stage.place)
        slots = min(self._crew.slots(stage.place), len(items))
        cut = _Cut(stage, items, refresh, slots, self._crew.limit(stage.place), self._batch_seconds)
        outcomes: list[Outcome] = []
        suspects: list[Item] = []
        flying: dict[Future[list[Outcome]], Batch] = {}
        with _threads(slots) as threads:
            while cut.waiting or flying:
                while cut.waiting and len(flying) < slots:
                    check_room(self._store)
                    batch = cut.next()
                    if threads is not None:
                        # Prefect keeps the run of a task in context variables.
                        answer = threads.submit(copy_context().run, self._crew.run, batch, listener)
                    else:  # One slot: compute here, where Ctrl-C reaches it.
                        answer = Future()
                        try:
                            answer.set_result(self._crew.run(batch, listener))
                        except WorkersLost as lost:
                            answer.set_exception(lost)
                    flying[answer] = batch
                for answer in wait(flying, return_when=FIRST_COMPLETED).done:
                    batch = flying.pop(answer)
                    try:
                        found = answer.result()
                    except WorkersLost:
                        suspects += batch.items
                    else:
                        cut.measured(found)
                        outcomes += found
        return outcomes + [self._alone(stage, item, refresh, listener) for item in suspects]

    def _alone(self, stage: Stage[Any], item: Item, refresh: bool, listener: Listener) -> Outcome:
        key = item.action.key
        # A worker commits each item itself, so much of a lost batch may be done.
        known = None if refresh else self._store.actions.get(stage.name, key)
        error = None
        if known is None:
            try:
                batch = Batch(f"{stage.name}: {item.name} alone", stage, (item,), refresh)
                return self._crew.run(batch, listener)[0]
            except WorkersLost as lost:
                error = str(lost)
        outcome = Outcome(key, result=known, error=error)
        listener.done(outcome)
        return outcome


class _Cut:
    """The waiting items, and the size of the next batch."""

    def __init__(
        self, stage: Stage[Any], items: list[Item], refresh: bool, slots: int, limit: int | None, batch_seconds: float
    ) -> None:
        self.waiting = items
        self._stage = stage
        self._refresh = refresh
        self._slots = slots
        self._limit = limit
        self._batch_seconds = batch_seconds
        self._number = 0
        self._seconds: list[float] = []
        """Seconds of each computed item."""

    def measured(self, outcomes: Sequence[Outcome]) -> None:
        self._seconds += [one.result.provenance["seconds"] for one in outcomes if one.result is not None]

    def next(self) -> Batch:
        size = self._size()
        chosen, self.waiting = self.waiting[:size], self.waiting[size:]
        self._number += 1
        count = self._number + math.ceil(len(self.waiting) / size)
        return Batch(_label(self._stage, chosen, self._number, count), self._stage, tuple(chosen), self._refresh)

    def _size(self) -> int:
        # Else one slot would take all items while the others stand idle.
        share = math.ceil(len(self.waiting) / self._slots)
        if self._limit is None:
            return share
        if not self._seconds:
            return 1
        by_time = int(self._batch_seconds / max(fmean(self._seconds), 1e-6))
        return max(1, min(self._limit, by_time, share))


def _label(stage: Stage[Any], chosen: list[Item], number: int, count: int) -> str:
    if count == 1:
        return f"{stage.name}: {chosen[0].name}" + (f" and {len(chosen) - 1} more" if len(chosen) > 1 else "")
    return f"{stage.name}: batch {number} of {count}"


@contextmanager
def _threads(slots: int) -> Iterator[ThreadPoolExecutor | None]:
    """Yield a pool with a thread for each slot, or None for one slot."""
    if slots <= 1:
        yield None
        return
    threads = ThreadPoolExecutor(slots)
    try:
        yield threads
    finally:
        # A run that breaks off does not wait for its batches under way.
        threads.shutdown(wait=False, cancel_futures=True)
