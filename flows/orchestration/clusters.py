"""The processes that batches are sent to: this machine's, a Dask cluster's or a Ray cluster's.

A Prefect task runner belongs to the flow run that it was started in, here to one stage; the processes behind it, and
the models that they have loaded, stay for the next stage where the library lets them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner

from flows.engine.stage import Place
from flows.engine.workers import end_with_parent
from ipa_core.config import Execution


class Cluster(Protocol):
    heals: bool
    """Whether a task runner can be used on after a process of it died."""

    def is_death(self, error: Exception) -> bool:
        """Whether that is what the task runner raises for a task whose process died."""

    def task_runner(self, place: Place) -> TaskRunner[Any]:
        """Not started yet."""

    def about(self, place: Place, runner: Any) -> Any:
        """A context to submit a batch in: says that it takes a GPU, and that nobody is to try it again."""

    def release_gpus(self) -> None:
        """End processes that keep a model on a GPU of this machine: training is about to need it."""

    def close(self) -> None: ...


def open_cluster(execution: Execution) -> Cluster | None:
    """What ``execution.runner`` names; None for threads. Libraries of extras are imported here."""
    match execution.runner:
        case "threads":
            return None
        case "processes":
            return Processes(execution)
        case "dask":
            return Dask(execution)
        case "ray":
            return Ray(execution)


def processes_for(place: Place, execution: Execution) -> int:
    return execution.gpus if place == "gpu" else execution.workers


class Processes:
    """Worker processes of Prefect's own pool; they start anew with each stage."""

    heals = False

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def is_death(self, error: Exception) -> bool:
        return isinstance(error, BrokenProcessPool)

    def task_runner(self, place: Place) -> TaskRunner[Any]:
        return _PoolTaskRunner(processes_for(place, self._execution), initializer=_end_with_parent)

    @contextmanager
    def about(self, place: Place, runner: Any) -> Iterator[None]:
        yield

    def release_gpus(self) -> None: ...

    def close(self) -> None: ...


class _PoolTaskRunner(ProcessPoolTaskRunner):
    """Ends also after a process of it was killed while it wrote to the queue of logs and events: nobody gives that
    queue's lock back, and Python would wait at its end, for ever, for the thread that wants it."""

    def _stop_message_forwarding(self) -> None:
        if self._subprocess_message_queue is not None:
            self._subprocess_message_queue.cancel_join_thread()
        super()._stop_message_forwarding()


def _end_with_parent() -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()


class Dask:
    """The cluster at ``execution.cluster``, or two of this machine: one of ``workers`` processes, one of ``gpus``.

    The workers of a cluster that has GPUs should be started with ``--nthreads 1 --resources GPU=1``.
    """

    heals = True

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._local: dict[Place, Any] = {}

    def is_death(self, error: Exception) -> bool:
        from distributed import KilledWorker

        return isinstance(error, KilledWorker)

    def task_runner(self, place: Place) -> TaskRunner[Any]:
        from prefect_dask.task_runners import DaskTaskRunner

        if self._execution.cluster:
            return DaskTaskRunner(address=self._execution.cluster)
        if place not in self._local:
            import dask
            from distributed import LocalCluster

            # A batch whose worker died is not for another worker to die of.
            dask.config.set({"distributed.scheduler.allowed-failures": 0})
            count = processes_for(place, self._execution)
            self._local[place] = LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=count, threads_per_worker=1, dashboard_address=None
            )
        return DaskTaskRunner(cluster=self._local[place])

    @contextmanager
    def about(self, place: Place, runner: Any) -> Iterator[None]:
        from dask.base import annotate

        workers = runner.client.scheduler_info(n_workers=-1)["workers"].values()
        marked = place == "gpu" and any("GPU" in worker["resources"] for worker in workers)
        with annotate(**({"resources": {"GPU": 1}} if marked else {})):
            yield

    def release_gpus(self) -> None:
        if "gpu" in self._local:
            self._local.pop("gpu").close()

    def close(self) -> None:
        for cluster in self._local.values():
            cluster.close()
        self._local.clear()


class Ray:
    """The cluster at ``execution.cluster``, or one of this machine."""

    heals = True

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def is_death(self, error: Exception) -> bool:
        # By name: Prefect loads ray lazily, and its classes may exist twice.
        deaths = {"WorkerCrashedError", "OutOfMemoryError", "NodeDiedError"}
        return any(kind.__module__ == "ray.exceptions" and kind.__name__ in deaths for kind in type(error).__mro__)

    def task_runner(self, place: Place) -> TaskRunner[Any]:
        import ray
        from prefect_ray.task_runners import RayTaskRunner

        if not ray.is_initialized() and not self._execution.cluster:
            ray.init(
                num_cpus=self._execution.workers + self._execution.gpus,
                num_gpus=self._execution.gpus,
                include_dashboard=False,
                log_to_driver=False,
            )
        runner: TaskRunner[Any] = RayTaskRunner(self._execution.cluster)
        return runner

    @contextmanager
    def about(self, place: Place, runner: Any) -> Iterator[None]:
        from prefect_ray.context import remote_options

        # Left to itself Ray would end a process that used a GPU after each task, and its model with it.
        gpu = {"num_gpus": 1, "max_calls": 0} if place == "gpu" else {}
        with remote_options(num_cpus=1, max_retries=0, **gpu):
            yield

    def release_gpus(self) -> None:
        if not self._execution.cluster:
            self.close()

    def close(self) -> None:
        import ray

        ray.shutdown()
