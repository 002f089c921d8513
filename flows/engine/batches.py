"""Cut items into batches by measured time, keep all slots of a crew busy, and find the item that killed a worker."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from statistics import fmean
from typing import Any, Final

from flows.engine.room import check_room
from flows.engine.stage import Item, RunStopped, Stage
from flows.engine.work import Batch, Crew, Listener, Loss, Outcome, WorkersLost
from storage import Store

_ALONE: Final = 3
"""Times that an item alone may lose its worker to a signal. Who kills at random hits one item so often hardly ever."""
_UNBEGUN: Final = 50
"""Workers that may be killed one after the other before they begin an item."""
_POLL: Final = 1.0
"""Seconds between two looks at what another run computes."""

log = logging.getLogger(__name__)


class Batches:
    """Gives each item to the crew once. The item that a killed worker had under way is given again, alone."""

    def __init__(self, store: Store, crew: Crew, batch_minutes: float) -> None:
        self._store = store
        self._crew = crew
        self._batch_seconds = 60 * batch_minutes

    def compute(self, stage: Stage[Any], items: list[Item], refresh: bool, listener: Listener) -> list[Outcome]:
        """Return one outcome for each item, in any order. Raises ``NoRoom`` when the store's disk is nearly full, and
        ``RunStopped`` when workers do not live long enough to begin an item.

        Items that another run computes come last.
        """
        place = stage.place
        self._crew.prepare(place)
        ledger = _Ledger(self._store, stage, refresh, listener)
        for waiting in self._rounds(items, ledger):
            slots = min(self._crew.slots(place), len(waiting))
            cut = _Cut(stage, waiting, refresh, slots, self._crew.limit(place), self._batch_seconds)
            flying: dict[Future[list[Outcome]], Batch] = {}
            with _threads(slots) as threads:
                while cut.waiting or flying:
                    while cut.waiting and len(flying) < slots:
                        check_room(self._store)
                        batch = cut.next()
                        if threads is not None:
                            # Prefect keeps the run of a task in context variables.
                            answer = threads.submit(copy_context().run, self._crew.run, batch, ledger)
                        else:  # One slot: compute here, where Ctrl-C reaches it.
                            answer = Future()
                            try:
                                answer.set_result(self._crew.run(batch, ledger))
                            except WorkersLost as lost:
                                answer.set_exception(lost)
                        flying[answer] = batch
                    for answer in wait(flying, return_when=FIRST_COMPLETED).done:
                        batch = flying.pop(answer)
                        try:
                            cut.measured(answer.result())
                        except WorkersLost as lost:
                            cut.waiting = ledger.left(batch, lost) + cut.waiting
        return list(ledger.outcomes.values())

    def _rounds(self, items: list[Item], ledger: _Ledger) -> Iterator[list[Item]]:
        """Yield items to give to the crew. Between two rounds try suspects alone, and wait for other runs."""
        waiting = items
        while waiting:
            yield waiting
            suspects, ledger.suspects = ledger.suspects, []
            for item in suspects:
                self._alone(item, ledger)
            waiting = ledger.freed(items)

    def _alone(self, item: Item, ledger: _Ledger) -> None:
        batch = Batch(f"{ledger.stage.name}: {item.name} alone", ledger.stage, (item,), ledger.refresh)
        tries = _ALONE
        while tries:
            try:
                self._crew.run(batch, ledger)
                return
            except WorkersLost as lost:
                error = str(lost)
                if not ledger.unfinished(batch, lost):
                    return
                if lost.loss is not Loss.UNBEGUN:
                    tries = tries - 1 if lost.loss is Loss.KILLED else 0
        ledger.done(Outcome(item.action.key, error=error))


class _Ledger:
    """The outcomes of the items of a stage, and those whose worker died. Threads may tell it outcomes."""

    def __init__(self, store: Store, stage: Stage[Any], refresh: bool, listener: Listener) -> None:
        self.stage = stage
        self.refresh = refresh
        self.outcomes: dict[str, Outcome] = {}
        self.suspects: list[Item] = []
        self._elsewhere: set[str] = set()
        """Keys of items that another run computes."""
        self._store = store
        self._listener = listener
        self._unbegun = 0
        self._said_waiting = False

    def done(self, outcome: Outcome) -> None:
        self._unbegun = 0
        if outcome.under_way:
            self._elsewhere.add(outcome.key)
            return
        self.outcomes[outcome.key] = outcome
        self._listener.done(outcome)

    def part(self, key: str, share: float) -> None:
        self._listener.part(key, share)

    def left(self, batch: Batch, lost: WorkersLost) -> list[Item]:
        """Return the items of a lost batch to be given again. The first may be to blame: it was under way."""
        left = self.unfinished(batch, lost)
        if not left or lost.loss is Loss.UNBEGUN:
            return left
        self._store.leases.drop(left[0].action.key)  # Its holder, maybe on another machine, is dead.
        if lost.loss is Loss.HUNG:
            self.done(Outcome(left[0].action.key, error=str(lost)))
        else:
            self.suspects.append(left[0])
        return left[1:]

    def unfinished(self, batch: Batch, lost: WorkersLost) -> list[Item]:
        """Return the items of a lost batch without an outcome. Raises ``RunStopped`` when too many workers were lost
        before they began."""
        self._unbegun += lost.loss is Loss.UNBEGUN
        if self._unbegun >= _UNBEGUN:
            raise RunStopped(
                f"{self._unbegun} worker processes of {self.stage.name} were killed one after the other before they "
                "began an item; is the memory enough for execution.workers and execution.gpus processes?"
            )
        left = [item for item in batch.items if item.action.key not in self.outcomes.keys() | self._elsewhere]
        # A worker commits each item itself, so it may have died after a commit.
        keys = [] if self.refresh else [item.action.key for item in left]
        for key, result in self._store.actions.lookup(self.stage.name, keys).items():
            self.done(Outcome(key, result=result))
        return [item for item in left if item.action.key not in self.outcomes]

    def freed(self, items: list[Item]) -> list[Item]:
        """Wait until another run has computed or given up one of the items that it had under way. Return those that it
        gave up."""
        while self._elsewhere:
            for key, result in self._store.actions.lookup(self.stage.name, self._elsewhere).items():
                self._elsewhere.remove(key)
                self.done(Outcome(key, result=result, elsewhere=True))
            free = {key for key in self._elsewhere if self._store.leases.is_free(key)}
            if free:
                self._elsewhere -= free
                return [item for item in items if item.action.key in free]
            if self._elsewhere:
                self._say_waiting()
                time.sleep(_POLL)
        return []

    def _say_waiting(self) -> None:
        if not self._said_waiting:
            count = len(self._elsewhere)
            items = f"{count} items" if count > 1 else "an item"
            log.warning("%s: waiting for %s that another run computes", self.stage.name, items)
        self._said_waiting = True


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
