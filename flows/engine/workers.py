"""Worker processes for CPU items. A file that crashes a decoder takes one worker with it, not the run."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

from flows.engine.components import Components
from flows.engine.stage import Item, StageName
from flows.engine.workbench import Outcome, Workbench
from ipa_core.config import RunConfig
from storage import Store

DIED = "the worker process died while computing this (crashed decoder, or out of memory)"
_bench: Workbench | str = "the worker was not set up"
"""Of a worker process; or why it has none."""


class WorkerPool:
    """Processes that start with the first item and keep their models until `close`. Threads may share it."""

    def __init__(self, store: Store, config: RunConfig, components: Components) -> None:
        self._setup = (str(store.address), config, components)
        self._workers = config.execution.workers
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def run(
        self, stage: StageName, items: list[Item], *, refresh: bool, on_done: Callable[[Outcome], None]
    ) -> list[Outcome]:
        """Compute the items in any order; one outcome for each."""
        outcomes, suspects = self._submit(self._shared(), stage, items, refresh, on_done)
        # Whoever was in flight when a worker died may be innocent: each suspect gets a process of its own.
        for item in suspects:
            own = self._start(1)
            alone, guilty = self._submit(own, stage, [item], refresh, on_done)
            own.shutdown()
            outcomes += alone
            for culprit in guilty:
                outcomes.append(Outcome(culprit.action.key, error=DIED))
                on_done(outcomes[-1])
        return outcomes

    def _submit(
        self,
        pool: ProcessPoolExecutor,
        stage: StageName,
        items: list[Item],
        refresh: bool,
        on_done: Callable[[Outcome], None],
    ) -> tuple[list[Outcome], list[Item]]:
        """Outcomes, and the items that were in flight when a worker died."""
        waiting: dict[Future[Outcome], Item] = {}
        outcomes: list[Outcome] = []
        broken: list[Item] = []
        for number, item in enumerate(items):
            try:
                waiting[pool.submit(_compute, stage, item, refresh)] = item
            except BrokenProcessPool:
                broken += items[number:]
                break
        for future in as_completed(waiting):
            try:
                outcomes.append(future.result())
                on_done(outcomes[-1])
            except BrokenProcessPool:
                broken.append(waiting[future])
        if broken:
            self._drop(pool)
        return outcomes, broken

    def _shared(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = self._start(self._workers)
            return self._pool

    def _start(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            workers,
            # Forking a process that has torch's and Prefect's threads can deadlock.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_open,
            initargs=self._setup,
        )

    def _drop(self, broken: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._pool is broken:
                self._pool = None
        broken.shutdown(cancel_futures=True)

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _open(address: str, config: RunConfig, components: Components) -> None:
    global _bench
    threading.Thread(target=end_with_parent, daemon=True).start()
    import cv2

    cv2.setNumThreads(1)
    try:
        _bench = Workbench(Store(address), config, components)
    except Exception as error:  # noqa: BLE001 - told by every item
        # Raised here it would only break the pool, again and again; each item tells it instead.
        _bench = f"a worker could not start: {type(error).__name__}: {error}"


def end_with_parent() -> None:
    """A parent that is killed can't tell its workers, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _compute(name: StageName, item: Item, refresh: bool) -> Outcome:
    if isinstance(_bench, str):
        return Outcome(item.action.key, error=_bench)
    from flows.stages import stage_named

    return _bench.run(stage_named(name), item, refresh=refresh)
