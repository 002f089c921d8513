"""The server as its users see it: through the API."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

RETRAIN = "retrain/fake"


def start(deployment: str, *, changes: list[str] | None = None, parameters: dict[str, Any] | None = None) -> UUID:
    from prefect.deployments import run_deployment

    config = {"config": {"path": os.environ["IPA_SMOKE_CONFIG"], "changes": changes}} if changes else {}
    run: Any = run_deployment(deployment, parameters=parameters or config, timeout=0)
    return UUID(str(run.id))


def read(run: UUID) -> Any:
    with client() as api:
        return api.read_flow_run(run)


def finished(run: UUID, *, attempt: int = 1) -> Any:
    """The run once it has ended."""

    def found() -> Any:
        about = read(run)
        return about if about.state.is_final() and (attempt == 1 or about.run_count >= attempt) else None

    return wait(f"the end of run {run}", found, patience=900)


def retry(run: UUID) -> None:
    from prefect.states import AwaitingRetry

    with client() as api:
        api.set_flow_run_state(run, AwaitingRetry(), force=True)


def runs_of(deployment: str, state: str | None = None) -> list[Any]:
    """Newest first."""
    from prefect.client.schemas.sorting import FlowRunSort

    with client() as api:
        found = api.read_deployment_by_name(deployment)
        runs = api.read_flow_runs(
            deployment_filter=where("Deployment", id=found.id), sort=FlowRunSort.EXPECTED_START_TIME_DESC
        )
    return [
        run for run in runs if run.state and (run.state.type.value == state if state else not run.state.is_scheduled())
    ]


def stages_of(run: Any) -> list[Any]:
    """The runs of its stages in its last attempt, by the order of their start."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    with client() as api:
        stages = api.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
        )
    newest = {stage.name: stage for stage in sorted(stages, key=lambda stage: stage.created)}
    return sorted(newest.values(), key=lambda stage: stage.created)


def tasks_of(run: Any) -> list[Any]:
    with client() as api:
        found = api.read_task_runs(flow_run_filter=where("FlowRun", id=run.id))
    return sorted(found, key=lambda task: task.name)


def log_of(task: Any) -> str:
    from prefect.client.schemas.filters import LogFilter, LogFilterTaskRunId

    with client() as api:
        lines = api.read_logs(LogFilter(task_run_id=LogFilterTaskRunId(any_=[task.id])))
    return "\n".join(line.message for line in lines)


def where(kind: str, *, id: UUID) -> Any:
    from prefect.client.schemas import filters

    return getattr(filters, f"{kind}Filter")(id=getattr(filters, f"{kind}FilterId")(any_=[id]))


def client() -> Any:
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def wait(what: str, found: Callable[[], Any], *, patience: float = 300) -> Any:
    """What ``found`` returns, as soon as it is true."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        answer = found()
        if answer:
            return answer
        time.sleep(0.5)
    raise SystemExit(f"{what} did not come within {patience:.0f} s")


def expect(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise SystemExit(f"{what}: expected {wanted!r}, found {found!r}")


def server_answers() -> bool:
    import httpx

    try:
        return httpx.get(f"{os.environ['PREFECT_API_URL']}/health", timeout=5).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
