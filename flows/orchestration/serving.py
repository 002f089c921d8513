"""Serve deployments from this process: one machine, no work pools."""

from __future__ import annotations

from typing import Any

from prefect import Flow, serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType


def serve_here(flow: Flow[Any, Any], names: list[str]) -> None:
    """Serve these deployments, which are on the server already, until interrupted."""
    with get_client(sync_client=True) as client:
        found = [client.read_deployment_by_name(f"{flow.name}/{name}") for name in names]
    # A run that was due while this process was away starts late; with the schedules paused it would be left out.
    serve(*(as_on_server(flow, deployment) for deployment in found), pause_on_shutdown=False)


def as_on_server(flow: Flow[Any, Any], found: DeploymentResponse) -> RunnerDeployment:
    """Return the deployment in Prefect's form for serving, with the settings that it has on the server: serving puts
    it there again."""
    limit = found.global_concurrency_limit
    deployment: RunnerDeployment = flow.to_deployment(  # type: ignore[assignment]  # a coroutine in an event loop only
        found.name,
        paused=found.paused,
        concurrency_limit=ConcurrencyLimitConfig(limit=limit.limit, **dict(found.concurrency_options or ()))
        if limit
        else None,
        parameters=found.parameters,
        description=found.description,
        tags=found.tags,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    fields = set(DeploymentScheduleCreate.model_fields)
    deployment.schedules = [
        DeploymentScheduleCreate(**{name: value for name, value in schedule if name in fields})
        for schedule in found.schedules
    ]
    return deployment
