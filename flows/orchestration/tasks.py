"""Run batches as Prefect tasks: on this machine, on a Dask or Ray cluster, or as a run of a deployment elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import Lock
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Crashed, Failed
from prefect.task_runners import TaskRunner

from flows.engine.components import Components
from flows.engine.remote import RemoteWork
from flows.engine.stage import Place, RunStopped
from flows.engine.work import BATCH_LIMIT, DIED, Batch, Listener, Outcome, WorkersLost
from flows.engine.workers import LocalCrew
from flows.orchestration.clusters import Cluster, open_cluster
from ipa_core.config import RunConfig
from storage import Store

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Work = Callable[[Batch], list[Outcome]]
GPU_SLOTS = "gpu"
"""The server's global concurrency limit: the number of GPUs for all runs. Without it nothing is limited."""
PATIENCE = 300.0
"""Seconds that a server may be away."""
LEASE = 60.0
"""Seconds after which the slots of a dead process are free again."""


# JSON for each result that Prefect keeps: its default would pickle.
@task(
    name="batch", task_run_name="{batch.label}", cache_policy=NO_CACHE, persist_result=False, result_serializer="json"
)
def compute_batch(batch: Batch, work: Work, gpus: int) -> list[Outcome] | State[list[Outcome]]:
    """Compute one batch. Prefect shows it, the store keeps its results. ``gpus``: number of GPUs it takes.

    A batch in which items failed is a failed task, with the outcomes as the state's data. A batch that lost its worker
    is a crashed task, with the loss as the state's data: Prefect would print an exception with its traceback.
    """
    with gpu_slots(gpus):
        started = time.perf_counter()
        try:
            outcomes = work(batch)
        except WorkersLost as lost:
            return Crashed(message=str(lost), data=lost)
    seconds = time.perf_counter() - started
    names = {item.action.key: item.name for item in batch.items}
    done = [names[outcome.key] for outcome in outcomes if outcome.result is not None]
    logger = get_run_logger()
    logger.info("%d of %d done in %.1f s: %s", len(done), len(outcomes), seconds, ", ".join(done))
    for outcome in outcomes:
        if outcome.error is not None:
            logger.warning("%s failed: %s", names[outcome.key], outcome.error)
        elif outcome.result is not None and outcome.result.outcome == "rejected":
            logger.info("%s rejected: %s", names[outcome.key], outcome.result.reason)
    errors = [f"{names[outcome.key]}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
    if errors:
        return Failed(message=f"{len(errors)} of {len(outcomes)} items failed; the first, {errors[0]}", data=outcomes)
    return outcomes


def _outcomes(state: Any) -> list[Outcome]:
    """Return the outcomes of a batch from the state of its task, or from the task's future."""
    found = state.result(raise_on_failure=False)
    if isinstance(found, BaseException):
        raise found
    outcomes: list[Outcome] = found
    return outcomes


@contextmanager
def gpu_slots(count: int) -> Iterator[None]:
    """Hold ``count`` of the server's GPU slots, or all if there are fewer. If the server is away for a restart, no
    result computed meanwhile is lost."""
    held = _patiently(lambda: _take_slots(count)) if count else None
    try:
        yield
    finally:
        if held is not None:
            try:
                held.__exit__(None, None, None)
            except httpx.HTTPError as error:
                log.warning("the server can't take GPU slots back, they are free again in %.0f s: %s", LEASE, error)


def _take_slots(count: int) -> AbstractContextManager[None] | None:
    """Take the slots and return them, or return None if the server limits nothing."""
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(GPU_SLOTS)
        except ObjectNotFound:
            return None
    if not limit.active:
        return None
    occupied = min(count, limit.limit)
    if limit.active_slots + occupied > limit.limit:
        get_run_logger().info("waiting for %d of the server's %d GPU slots", occupied, limit.limit)
    slots = concurrency(GPU_SLOTS, occupy=occupied, lease_duration=LEASE)
    slots.__enter__()
    return slots


def _patiently(ask: Callable[[], Answer]) -> Answer:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except httpx.ConnectError:
            if time.monotonic() > deadline:
                raise
            time.sleep(2)


class PrefectCrew:
    """A `Crew` whose batches are tasks of the current flow run."""

    def __init__(self, store: Store, config: RunConfig, components: Components) -> None:
        self._store = store
        self._config = config
        self._execution = config.execution
        self._local = LocalCrew(store, config, components)
        self._cluster = open_cluster(config.execution)
        self._work = RemoteWork(str(store.address), config, components)
        self._lock = Lock()
        self._runners: dict[Place, TaskRunner[Any]] = {}

    def prepare(self, place: Place) -> None:
        if self._is_sent_out(place) and self._cluster is not None:
            # Not in a batch's thread: Ray's processes end with the thread that started them.
            self._runner(self._cluster, place)
        elif not self._is_handed_over(place):
            self._local.prepare(place)

    def slots(self, place: Place) -> int:
        return 1 if self._is_handed_over(place) else self._local.slots(place)

    def limit(self, place: Place) -> int | None:
        return None if self._is_handed_over(place) else BATCH_LIMIT

    def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
        place = batch.stage.place
        if not self._is_handed_over(place) and not self._is_sent_out(place):
            work = partial(self._local.work(place), listener=listener)
            return _outcomes(compute_batch(batch, work, self._gpus(place), return_state=True))
        outcomes = self._hand_over(batch) if self._is_handed_over(place) else self._send_out(batch)
        for outcome in outcomes:
            listener.done(outcome)
        return outcomes

    def end_stage(self) -> None:
        for place, runner in list(self._runners.items()):
            self._stop(place, runner)

    def close(self) -> None:
        self.end_stage()
        if self._cluster is not None:
            self._cluster.close()
        self._local.close()

    def _is_sent_out(self, place: Place) -> bool:
        return self._cluster is not None and place in ("cpu", "gpu") and not self._is_handed_over(place)

    def _is_handed_over(self, place: Place) -> bool:
        return self._execution.hand_over is not None and place in ("gpu", "train")

    def _gpus(self, place: Place) -> int:
        return {"gpu": self._execution.gpus_per_clip, "train": self._execution.train_processes}.get(place, 0)

    def _send_out(self, batch: Batch) -> list[Outcome]:
        assert self._cluster is not None
        place = batch.stage.place
        runner = self._runner(self._cluster, place)
        parameters = {"batch": batch, "work": self._work, "gpus": self._gpus(place)}
        with self._cluster.about(place, runner):
            future = runner.submit(compute_batch, parameters=parameters)
        try:
            outcomes = _outcomes(future)
        except Exception as death:
            if not self._cluster.is_death(death):
                raise
            _show_crash(future.task_run_id)
            raise WorkersLost(DIED) from death
        return outcomes

    def _runner(self, cluster: Cluster, place: Place) -> TaskRunner[Any]:
        with self._lock:
            if place not in self._runners:
                self._runners[place] = cluster.task_runner(place).__enter__()
            return self._runners[place]

    def _stop(self, place: Place, runner: TaskRunner[Any]) -> None:
        with self._lock:
            if self._runners.get(place) is runner:
                del self._runners[place]
                runner.__exit__(None, None, None)

    def _hand_over(self, batch: Batch) -> list[Outcome]:
        """Let a run of the deployment compute the stage, then look up its results."""
        assert self._execution.hand_over is not None
        if batch.refresh:
            for item in batch.items:
                self._store.actions.forget(batch.stage.name, item.action.key)
        there = self._execution.model_copy(update={"hand_over": None, "store": str(self._store.address)})
        config = self._config.model_copy(update={"execution": there})
        try:
            run = run_deployment(
                self._execution.hand_over,
                parameters={
                    "config": config.model_dump(mode="json"),
                    # Else a stage's deployment would also name the last run.
                    "run": None,
                    "first": batch.stage.name,
                    "last": batch.stage.name,
                },
                timeout=None,
            )
        except ObjectNotFound:
            raise RunStopped(
                f"execution.hand_over: the server has no deployment {self._execution.hand_over}; `prefect deployment "
                "ls` lists those that it has"
            ) from None
        state = getattr(run, "state", None)
        said = state.message if state is not None and not state.is_completed() else "it says no more"
        known = self._store.actions.lookup(batch.stage.name, [item.action.key for item in batch.items])
        error = f"not computed by the run of {self._execution.hand_over}: {said}"
        keys = [item.action.key for item in batch.items]
        return [Outcome(key, known.get(key), None if key in known else error) for key in keys]


def _show_crash(task_run: UUID) -> None:
    """Set the task's state to crashed. Its process can't, and the UI would show the task as running for ever."""
    with get_client(sync_client=True) as client:
        try:
            client.set_task_run_state(task_run, Crashed(message=DIED), force=True)
        except PrefectHTTPStatusError as error:
            # The task died before the server heard of it.
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
