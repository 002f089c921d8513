"""Who computes batches. :class:`LocalCrew` is this process and its worker pool; `flows.orchestration.tasks` has one that hands
batches to a Prefect task runner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from flows.engine.components import Components
from flows.engine.stage import Item, Place, StageName
from flows.engine.workbench import Outcome, Workbench
from flows.engine.workers import WorkerPool
from ipa_core.config import RunConfig
from storage import Store

OnDone = Callable[[Outcome], None]
BATCH_LIMIT = 64
"""Items of a batch at most: what a failure costs, and what the UI shows, stays small."""


class WorkersLost(Exception):  # noqa: N818 - says what became of them
    """Whoever computed the batch died with it. What was committed before is in the store."""


@dataclass(frozen=True)
class Batch:
    """Items that are handed out together."""

    label: str
    """`scores: batch 3 of 12`."""
    stage: StageName
    place: Place
    items: tuple[Item, ...]
    refresh: bool = False


class Crew(Protocol):
    """Several threads may call :meth:`run` at once; the rest is called by the thread of the run."""

    def prepare(self, place: Place) -> None:
        """Called before batches of that place."""

    def slots(self, place: Place) -> int:
        """Batches that are worth being under way at the same time."""

    def lanes(self, place: Place) -> int:
        """Items of one batch that are computed at the same time."""

    def limit(self, place: Place) -> int | None:
        """Items of a batch at most; None where all go at once."""

    def run(self, batch: Batch, on_done: OnDone) -> list[Outcome]:
        """One outcome for each item, in any order; ``on_done`` is called with each. Raises :class:`WorkersLost`."""

    def end_stage(self) -> None:
        """Let go of what the next stage has no use for."""

    def close(self) -> None: ...


class LocalCrew:
    """CPU items go to a pool of processes, all others are computed right here."""

    def __init__(
        self, store: Store, config: RunConfig, components: Components, progress: Callable[[int, int], None]
    ) -> None:
        self._bench = Workbench(store, config, components, progress)
        self._pool = WorkerPool(store, config, components)
        self._workers = config.execution.workers

    def prepare(self, place: Place) -> None:
        """Pool and models start with the first item."""

    def slots(self, place: Place) -> int:
        # While the last items of one batch are computed, the next one fills the other processes.
        return 2 if place == "cpu" else 1

    def lanes(self, place: Place) -> int:
        return self._workers if place == "cpu" else 1

    def limit(self, place: Place) -> int | None:
        return BATCH_LIMIT

    def run(self, batch: Batch, on_done: OnDone) -> list[Outcome]:
        if batch.place == "cpu":
            return self._pool.run(batch.stage, list(batch.items), refresh=batch.refresh, on_done=on_done)
        return compute(batch, self._bench, on_done)

    def end_stage(self) -> None:
        """The pool and the model are of use to later stages."""

    def close(self) -> None:
        self._pool.close()
        self._bench.close()


def compute(batch: Batch, bench: Workbench, on_done: OnDone = lambda outcome: None) -> list[Outcome]:
    """Compute and commit the items of a batch one after the other."""
    from flows.stages import stage_named

    stage = stage_named(batch.stage)
    outcomes = []
    for item in batch.items:
        outcomes.append(bench.run(stage, item, refresh=batch.refresh))
        on_done(outcomes[-1])
    return outcomes
