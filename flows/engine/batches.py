"""Cuts items into batches by their measured time, keeps all of a crew busy, and finds out who killed a worker."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context

from flows.engine.stage import Item, Stage
from flows.engine.work import Batch, Crew, OnDone, WorkersLost
from flows.engine.workbench import Outcome
from flows.engine.workers import DIED
from storage import Store

Answer = Future[list[Outcome]]
Start = Callable[[Callable[[Batch, OnDone], list[Outcome]], Batch, OnDone], Answer]


class Dispatcher:
    """Gives each item to the crew, once; an item whose worker dies is given once more, alone."""

    def __init__(self, store: Store, crew: Crew, batch_minutes: float) -> None:
        self._store = store
        self._crew = crew
        self._batch_seconds = 60 * batch_minutes

    def compute(self, stage: Stage, items: list[Item], refresh: bool, on_done: OnDone) -> list[Outcome]:
        """One outcome for each item, in any order."""
        outcomes: list[Outcome] = []
        suspects: list[Item] = []
        for batch, answer in self._answers(stage, items, refresh, on_done):
            try:
                outcomes += answer.result()
            except WorkersLost:
                suspects += batch.items
        return outcomes + [self._alone(stage, item, refresh, on_done) for item in suspects]

    def _answers(
        self, stage: Stage, items: list[Item], refresh: bool, on_done: OnDone
    ) -> Iterator[tuple[Batch, Answer]]:
        """Every batch with its answer, as they come in."""
        self._crew.prepare(stage.PLACE)
        slots = self._crew.slots(stage.PLACE)
        waiting, flying = list(items), dict[Answer, Batch]()
        number, measured, seconds = 0, 0, 0.0
        with _starting(slots) as start:
            while waiting or flying:
                while waiting and len(flying) < slots:
                    size = self._size(stage, math.ceil(len(waiting) / slots), seconds / measured if measured else None)
                    chosen, waiting = waiting[:size], waiting[size:]
                    number += 1
                    label = _label(stage, chosen, number, number + math.ceil(len(waiting) / size))
                    batch = Batch(label, stage.NAME, stage.PLACE, tuple(chosen), refresh)
                    flying[start(self._crew.run, batch, on_done)] = batch
                finished, _ = wait(flying, return_when=FIRST_COMPLETED)
                for answer in finished:
                    yield flying.pop(answer), answer
                    if answer.exception() is None:
                        results = [outcome.result for outcome in answer.result() if outcome.result is not None]
                        measured += len(results)
                        seconds += sum(result.provenance["seconds"] for result in results)

    def _size(self, stage: Stage, share: int, seconds_an_item: float | None) -> int:
        """Items of the next batch; ``share`` is what each slot would get of those that wait."""
        limit, lanes = self._crew.limit(stage.PLACE), self._crew.lanes(stage.PLACE)
        if limit is None:
            return share
        # Two items a lane: whoever is ready first goes on with the second.
        least = 2 * lanes if lanes > 1 else 1
        if seconds_an_item is None:
            return min(limit, least)
        by_time = int(self._batch_seconds * lanes / max(seconds_an_item, 1e-6))
        return min(limit, max(least, min(by_time, share)))

    def _alone(self, stage: Stage, item: Item, refresh: bool, on_done: OnDone) -> Outcome:
        key = item.action.key
        # A worker commits each item itself, so much of a lost batch may be done.
        known = None if refresh else self._store.actions.get(stage.NAME, key)
        if known is None:
            batch = Batch(f"{stage.NAME}: {item.name} alone", stage.NAME, stage.PLACE, (item,), refresh)
            try:
                return self._crew.run(batch, on_done)[0]
            except WorkersLost:
                pass
        outcome = Outcome(key, result=known, error=None if known else DIED)
        on_done(outcome)
        return outcome


def _label(stage: Stage, chosen: list[Item], number: int, count: int) -> str:
    if count == 1:
        return f"{stage.NAME}: {chosen[0].name}" + (f" and {len(chosen) - 1} more" if len(chosen) > 1 else "")
    return f"{stage.NAME}: batch {number} of {count}"


@contextmanager
def _starting(slots: int) -> Iterator[Start]:
    """A function that calls another in a thread; with one slot right here, where Ctrl-C reaches it."""
    if slots == 1:
        yield _right_here
        return
    threads = ThreadPoolExecutor(slots)
    try:
        # Prefect keeps in context variables which run a task belongs to.
        yield lambda run, batch, on_done: threads.submit(copy_context().run, run, batch, on_done)
    finally:
        # Nobody waits for batches that a run which breaks off still has under way.
        threads.shutdown(wait=False, cancel_futures=True)


def _right_here(run: Callable[[Batch, OnDone], list[Outcome]], batch: Batch, on_done: OnDone) -> Answer:
    answer = Answer()
    try:
        answer.set_result(run(batch, on_done))
    except Exception as error:  # noqa: BLE001 - raised again by whoever asks for the answer
        answer.set_exception(error)
    return answer
