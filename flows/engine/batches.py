"""Cuts items into batches by their measured time, keeps all slots of a crew busy, and finds out who killed a worker."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from flows.engine.stage import Item, Stage
from flows.engine.work import Batch, Crew, Listener, Outcome, WorkersLost
from storage import Store

Answer = Future[list[Outcome]]
Start = Callable[[Batch], Answer]


class Batches:
    """Gives each item to the crew, once; an item whose worker dies is given once more, alone."""

    def __init__(self, store: Store, crew: Crew, batch_minutes: float) -> None:
        self._store = store
        self._crew = crew
        self._batch_seconds = 60 * batch_minutes

    def compute(self, stage: Stage[Any], items: list[Item], refresh: bool, listener: Listener) -> list[Outcome]:
        """One outcome for each item, in any order."""
        outcomes: list[Outcome] = []
        suspects: list[Item] = []
        for batch, answer in self._answers(stage, items, refresh, listener):
            try:
                outcomes += answer.result()
            except WorkersLost:
                suspects += batch.items
        return outcomes + [self._alone(stage, item, refresh, listener) for item in suspects]

    def _answers(
        self, stage: Stage[Any], items: list[Item], refresh: bool, listener: Listener
    ) -> Iterator[tuple[Batch, Answer]]:
        """Every batch with its answer, as they come in."""
        self._crew.prepare(stage.place)
        slots = self._crew.slots(stage.place)
        waiting, flying = list(items), dict[Answer, Batch]()
        number, measured, seconds = 0, 0, 0.0
        with _starting(self._crew, listener, min(slots, len(items))) as start:
            while waiting or flying:
                while waiting and len(flying) < slots:
                    size = self._size(stage, math.ceil(len(waiting) / slots), seconds / measured if measured else None)
                    chosen, waiting = waiting[:size], waiting[size:]
                    number += 1
                    label = _label(stage, chosen, number, number + math.ceil(len(waiting) / size))
                    batch = Batch(label, stage, tuple(chosen), refresh)
                    flying[start(batch)] = batch
                finished, _ = wait(flying, return_when=FIRST_COMPLETED)
                for answer in finished:
                    yield flying.pop(answer), answer
                    if answer.exception() is None:
                        results = [outcome.result for outcome in answer.result() if outcome.result is not None]
                        measured += len(results)
                        seconds += sum(result.provenance["seconds"] for result in results)

    def _size(self, stage: Stage[Any], share: int, seconds_an_item: float | None) -> int:
        """Items of the next batch; ``share`` is what each slot would get of those that wait."""
        limit = self._crew.limit(stage.place)
        if limit is None:
            return share
        if seconds_an_item is None:
            return 1
        by_time = int(self._batch_seconds / max(seconds_an_item, 1e-6))
        return max(1, min(limit, by_time, share))

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


def _label(stage: Stage[Any], chosen: list[Item], number: int, count: int) -> str:
    if count == 1:
        return f"{stage.name}: {chosen[0].name}" + (f" and {len(chosen) - 1} more" if len(chosen) > 1 else "")
    return f"{stage.name}: batch {number} of {count}"


@contextmanager
def _starting(crew: Crew, listener: Listener, slots: int) -> Iterator[Start]:
    """A function that has a batch computed in a thread; with one slot right here, where Ctrl-C reaches it."""
    if slots <= 1:
        yield lambda batch: _right_here(crew, batch, listener)
        return
    threads = ThreadPoolExecutor(slots)
    try:
        # Prefect keeps in context variables which run a task belongs to.
        yield lambda batch: threads.submit(copy_context().run, crew.run, batch, listener)
    finally:
        # Nobody waits for batches that a run which breaks off still has under way.
        threads.shutdown(wait=False, cancel_futures=True)


def _right_here(crew: Crew, batch: Batch, listener: Listener) -> Answer:
    answer = Answer()
    try:
        answer.set_result(crew.run(batch, listener))
    except Exception as error:  # noqa: BLE001 - raised again by whoever asks for the answer
        answer.set_exception(error)
    return answer
