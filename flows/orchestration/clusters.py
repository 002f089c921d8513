"""Clusters that compute batches: Dask or Ray. The libraries of these extras are imported on first use.

A Prefect task runner belongs to one flow run, here to one stage. The processes behind it, and their loaded models, stay
for the next stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from prefect.task_runners import TaskRunner

from flows.engine.stage import Place, RunStopped
from ipa_core.config import Execution

TRIES: Final = 3
_STARTS_BADLY: Final = "Initialization failure from server"
"""What Ray says when its server is there, but the process that it starts for each client died at once (a fault of its
gRPC when it forks, seen in one of some dozens of starts)."""


class Cluster(Protocol):
    def is_death(self, error: Exception) -> bool:
        """Return whether the task runner raises this error when a task's process dies."""

    def task_runner(self, place: Place) -> TaskRunner[Any]:
        """Return a task runner that is not started yet."""

    def about(self, place: Place, runner: Any) -> Any:
        """Return a context to submit a batch in: it asks for a GPU if needed, and forbids retries."""

    def close(self) -> None: ...


def open_cluster(execution: Execution) -> Cluster | None:
    """Return the cluster that the scheme of ``execution.cluster`` names, or None for this machine."""
    if execution.cluster is None:
        return None
    return Ray(execution.cluster) if execution.cluster.startswith("ray://") else Dask(execution.cluster)


class Dask:
    """If the cluster has GPUs, start its workers with ``--nthreads 1 --resources GPU=1``."""

    def __init__(self, address: str) -> None:
        self._address = address

    def is_death(self, error: Exception) -> bool:
        from distributed import KilledWorker

        return isinstance(error, KilledWorker)

    def task_runner(self, place: Place) -> TaskRunner[Any]:
        from prefect_dask.task_runners import DaskTaskRunner

        return DaskTaskRunner(address=self._address)

    @contextmanager
    def about(self, place: Place, runner: Any) -> Iterator[None]:
        from dask.base import annotate

        workers = runner.client.scheduler_info(n_workers=-1)["workers"].values()
        marked = place == "gpu" and any("GPU" in worker["resources"] for worker in workers)
        with annotate(**({"resources": {"GPU": 1}} if marked else {})):
            yield

    def close(self) -> None: ...


class Ray:
    def __init__(self, address: str) -> None:
        self._address = address

    def is_death(self, error: Exception) -> bool:
        # Compare names, because Prefect loads ray lazily and its classes may exist twice.
        deaths = {"WorkerCrashedError", "OutOfMemoryError", "NodeDiedError"}
        return any(kind.__module__ == "ray.exceptions" and kind.__name__ in deaths for kind in type(error).__mro__)

    def task_runner(self, place: Place) -> TaskRunner[Any]:
        import ray
        from prefect_ray.task_runners import RayTaskRunner

        # One connection for the whole run: a new one for each stage would start new workers, which load models again.
        if not ray.is_initialized():
            self._connect()
        runner: TaskRunner[Any] = RayTaskRunner(self._address)
        return runner

    def _connect(self) -> None:
        import ray

        for tried in range(1, TRIES + 1):
            try:
                ray.init(self._address, log_to_driver=False)
                return
            except ConnectionError as error:
                if tried == TRIES or _STARTS_BADLY not in str(error):
                    raise RunStopped(f"execution.cluster: no Ray answers at {self._address}: {error}") from None

    @contextmanager
    def about(self, place: Place, runner: Any) -> Iterator[None]:
        from prefect_ray.context import remote_options

        # By default Ray ends a process that used a GPU after each task, and its model with it.
        gpu = {"num_gpus": 1, "max_calls": 0} if place == "gpu" else {}
        with remote_options(num_cpus=1, max_retries=0, **gpu):
            yield

    def close(self) -> None:
        import ray

        ray.shutdown()
