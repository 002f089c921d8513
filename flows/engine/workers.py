"""A crew on this machine: processes for CPU items, one process for each GPU, and the run's own process for the rest.

A file that crashes a decoder ends one process, not the run.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any, Final

from flows.engine import remote
from flows.engine.components import Components
from flows.engine.devices import visible_devices
from flows.engine.parent import end_with_parent
from flows.engine.remote import RemoteWork
from flows.engine.stage import Place, RunStopped
from flows.engine.work import BATCH_LIMIT, DIED, Batch, Listener, Outcome, Work, WorkersLost
from flows.engine.worker import Worker
from ipa_core.config import Execution, RunConfig
from storage import Store

_SPAWN: Final = multiprocessing.get_context("spawn")
"""A fork of a process that has torch's and Prefect's threads can deadlock."""
_HUNG: Final = 1
"""Exit code of a process that `faulthandler` ends."""
_BUG: Final = 70
_PATIENCE: Final = 10.0
"""Seconds that a process may take to end."""


class LocalCrew:
    """A `Crew`: `execution.workers` CPU processes and `execution.gpus` GPU processes of this machine."""

    def __init__(self, store: Store, config: RunConfig, components: Components) -> None:
        self._execution = config.execution
        self._worker = Worker(store, config, components)
        work = RemoteWork(str(store.address), config, components)
        self._pools: dict[Place, WorkerPool] = {
            "cpu": WorkerPool(work, config.execution.workers),
            "gpu": WorkerPool(work, config.execution.gpus),
        }

    def prepare(self, place: Place) -> None:
        if place == "gpu":
            check_gpus(self._execution)
        if place == "train":
            self._pools["gpu"].close()  # The training needs their memory.

    def slots(self, place: Place) -> int:
        return self._pools[place].count if place in self._pools else 1

    def limit(self, place: Place) -> int | None:
        return BATCH_LIMIT

    def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
        return self.work(batch.stage.place)(batch, listener)

    def work(self, place: Place) -> Work:
        """Return the function that computes batches of that place."""
        return self._pools[place].run if place in self._pools else self._worker.run

    def end_stage(self) -> None:
        """Keep the processes, because later stages use their models."""

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._worker.close()


def check_gpus(execution: Execution) -> None:
    """Raise ``RunStopped`` when there are fewer GPUs than processes for them. Without any GPU, `auto` means the CPU."""
    if execution.gpus == 1 or execution.device == "cpu":
        return
    seen = len(visible_devices())
    if seen < execution.gpus and (seen or execution.device == "cuda"):
        raise RunStopped(
            f"execution.gpus is {execution.gpus}, but this process sees {seen} GPUs; lower it, or check "
            "`nvidia-smi` and CUDA_VISIBLE_DEVICES"
        )


class WorkerPool:
    """Up to ``count`` processes. Each starts when a batch needs it and keeps its models until :meth:`close`."""

    def __init__(self, work: RemoteWork, count: int) -> None:
        self.count = count
        self._work = work
        self._lock = threading.Lock()
        self._free = threading.Semaphore(count)
        self._idle: list[_Process] = []
        self._busy: list[_Process] = []

    def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
        """Compute a batch in one process. Raises :class:`WorkersLost` when that process dies."""
        with self._free:
            with self._lock:
                process = self._idle.pop() if self._idle else _Process(self._work)
                self._busy.append(process)
            try:
                outcomes = process.run(batch, listener)
            except BaseException:
                process.kill()
                with self._lock:
                    self._busy.remove(process)
                raise
            with self._lock:
                if process in self._busy:  # Else the pool was closed meanwhile.
                    self._busy.remove(process)
                    self._idle.append(process)
            return outcomes

    def close(self) -> None:
        """End all processes; kill those that still compute."""
        with self._lock:
            idle, busy = self._idle, self._busy
            self._idle, self._busy = [], []
        for process in busy:
            process.kill()
        for process in idle:
            process.leave()
        for process in idle:
            process.end()


class _Process:
    def __init__(self, work: RemoteWork) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, work), daemon=True)
        self._process.start()
        theirs.close()  # Else the pipe would outlive the process.

    def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
        outcomes: list[Outcome] = []
        try:
            self._pipe.send(batch)
            while len(outcomes) < len(batch.items):
                message: Any = self._pipe.recv()
                if isinstance(message, Outcome):
                    outcomes.append(message)
                    listener.done(message)
                else:
                    listener.part(*message)
        except (EOFError, ConnectionError):
            self._process.join()
            raise WorkersLost(self._last_words()) from None
        return outcomes

    def _last_words(self) -> str:
        if self._process.exitcode == _HUNG:
            return "the worker process showed no progress for execution.item_minutes; its last lines are above"
        return "the worker process failed; its last lines are above" if self._process.exitcode == _BUG else DIED

    def leave(self) -> None:
        self._pipe.close()

    def end(self) -> None:
        self._process.join(_PATIENCE)
        self.kill()

    def kill(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, work: RemoteWork) -> None:
    """Compute the batches that a pipe brings, until it closes."""
    # Ctrl-C in a terminal reaches all processes that it started; the run's own process ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    told = _Told(pipe)
    while True:
        try:
            batch = pipe.recv()
        except EOFError:
            remote.close()
            return
        try:
            work(batch, told)
        except Exception:  # noqa: BLE001 - a bug; the exit code tells it from a hanging item
            traceback.print_exc()
            raise SystemExit(_BUG) from None


class _Told:
    """A listener that sends each report through a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def done(self, outcome: Outcome) -> None:
        self._pipe.send(outcome)

    def part(self, key: str, share: float) -> None:
        self._pipe.send((key, share))
