"""A crew on this machine: processes for CPU items, one process for each GPU, and the run's own process for the rest.

A file that crashes a decoder ends one process, not the run.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from flows.engine import remote
from flows.engine.components import Components
from flows.engine.devices import visible_devices
from flows.engine.parent import end_with_parent
from flows.engine.remote import RemoteWork
from flows.engine.stage import Place, RunStopped
from flows.engine.work import BATCH_LIMIT, DIED, Batch, Listener, Loss, Outcome, Work, WorkersLost
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
_START: Final = 300.0
"""Seconds that a process may take to begin an item: a busy machine, modules on a network disk."""
_GRACE: Final = 5.0
"""Seconds after which a hanging process that did not end itself is killed. It is stopped, or can't write its lines."""


class LocalCrew:
    """A `Crew`: `execution.workers` CPU processes and `execution.gpus` GPU processes of this machine, some of which
    may be helpers of others (`execution.gpus_per_clip`)."""

    def __init__(self, store: Store, config: RunConfig, components: Components) -> None:
        self._execution = config.execution
        self._worker = Worker(store, config, components)
        work = RemoteWork(str(store.address), config, components)
        self._pools: dict[Place, WorkerPool] = {
            "cpu": WorkerPool(work, config.execution.workers),
            "gpu": WorkerPool(work, config.execution.gpus // config.execution.gpus_per_clip),
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
                self._idle = [process for process in self._idle if process.is_alive()]
                process = self._idle.pop() if self._idle else _Process(self._work, self.count)
                self._busy.append(process)
            try:
                outcomes = process.run(batch, listener)
            except BaseException:
                process.kill()
                with self._lock:
                    if process in self._busy:
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
    """A process with a pipe. A thread of this side watches it, because the pipe alone does not tell every death: a
    process that it started may hold the other end, and one that is stopped neither reads nor closes."""

    def __init__(self, work: RemoteWork, count: int) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._socket = socket.socket(fileno=os.dup(self._pipe.fileno()))
        self._process = _SPAWN.Process(target=_serve, args=(theirs, count), daemon=True)
        self._process.start()
        theirs.close()
        self._work: RemoteWork | None = work
        self._patience = 60 * work.config.execution.item_minutes + _GRACE
        self._deadline = math.inf
        """The time by which the next message must come."""
        self._begun = self._hung = False
        self._watch = threading.Thread(target=self._watched, daemon=True)
        self._watch.start()

    def is_alive(self) -> bool:
        return self._watch.is_alive()

    def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
        outcomes: list[Outcome] = []
        self._deadline = time.monotonic() + max(_START, self._patience)
        if self._work is not None:
            self._send(self._work)
            self._work = None
        self._send(batch)
        while len(outcomes) < len(batch.items):
            message = self._message()
            self._deadline = time.monotonic() + self._patience
            self._begun = not isinstance(message, Outcome)
            if isinstance(message, Outcome):
                outcomes.append(message)
                listener.done(message)
            else:
                listener.part(*message)
        self._deadline = math.inf
        return outcomes

    def _send(self, what: RemoteWork | Batch) -> None:
        try:
            self._pipe.send(what)
        except OSError:
            raise self._lost() from None

    def _message(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, OSError):  # An OSError says that the message broke off.
            raise self._lost() from None

    def _lost(self) -> WorkersLost:
        self._watch.join(_PATIENCE)
        code = self._process.exitcode
        if self._begun and (self._hung or code == _HUNG):
            return WorkersLost(
                "the worker process showed no progress for execution.item_minutes; its last lines are above", Loss.HUNG
            )
        if code is not None and code < 0:
            return WorkersLost(DIED, Loss.KILLED if self._begun else Loss.UNBEGUN)
        return WorkersLost("the worker process failed; its last lines are above" if code == _BUG else DIED)

    def _watched(self) -> None:
        """Kill the process when a message is overdue. Close the pipe when the process is dead."""
        with self._socket:
            while self._process.exitcode is None:
                wait([self._process.sentinel], 1.0)
                if time.monotonic() > self._deadline:
                    self._hung = True
                    self._process.kill()
            self._process.join()  # multiprocessing forgets it, and its descriptors go.
            self.leave()

    def leave(self) -> None:
        with suppress(OSError):  # The other end is gone.
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        self._watch.join(_PATIENCE)
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._watch.join(_PATIENCE)


def _serve(pipe: Connection, count: int) -> None:
    """Compute the batches that a pipe brings after the work, until it closes. ``count``: processes like this one."""
    # torch reads it when it is loaded. More threads than cores spin while they wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    # Ctrl-C in a terminal reaches all processes that it started; the run's own process ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(pipe.fileno(), False)  # A program that a decoder starts may outlive this process.
    end_with_parent()
    told = _Told(pipe)
    try:
        messages = _messages(pipe)
        for work in messages:  # The first message.
            for batch in messages:
                work(batch, told)
    except Exception:  # noqa: BLE001 - a bug; the exit code tells it from a hanging item
        traceback.print_exc()
        raise SystemExit(_BUG) from None
    remote.close()


def _messages(pipe: Connection) -> Iterator[Any]:
    with suppress(EOFError, ConnectionError):
        while True:
            yield pipe.recv()


class _Told:
    """A listener that sends each report through a pipe. Without its reader this process has no purpose."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def done(self, outcome: Outcome) -> None:
        self._send(outcome)

    def part(self, key: str, share: float) -> None:
        self._send((key, share))

    def _send(self, message: Outcome | tuple[str, float]) -> None:
        try:
            self._pipe.send(message)
        except ConnectionError:
            # Not by an exception: an item under way would take it for its own failure.
            os._exit(0)
