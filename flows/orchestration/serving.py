"""Serve the deployments of deployments/prefect.yaml from this process: one machine, no work pools."""

from __future__ import annotations

from typing import Any

import yaml
from prefect import Flow, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL
from prefect.types.entrypoint import EntrypointType

from flows.engine.project import PROJECT
from flows.engine.stage import RunStopped
from flows.orchestration.automations import put_automations
from flows.orchestration.server import check_configured

PREFECT_YAML = PROJECT / "deployments" / "prefect.yaml"


def deployments(flow: Flow[Any, Any]) -> list[RunnerDeployment]:
    return [_deployment(flow, entry) for entry in yaml.safe_load(PREFECT_YAML.read_text())["deployments"]]


def _deployment(flow: Flow[Any, Any], entry: dict[str, Any]) -> RunnerDeployment:
    limit, crons = entry.get("concurrency_limit"), entry.get("schedules", ())
    # With slugs: a server that has the schedules already, from deployments/deploy.sh, refuses those without.
    schedules = [Cron(each["cron"], timezone=each["timezone"], slug=each["slug"]) for each in crons]
    return flow.to_deployment(  # type: ignore[return-value]  # it is a coroutine in an event loop only
        entry["name"],
        schedules=schedules,
        concurrency_limit=ConcurrencyLimitConfig(**limit) if limit else None,
        parameters=entry["parameters"],
        description=entry.get("description") or flow.description,
        tags=entry.get("tags"),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def serve_here(flow: Flow[Any, Any]) -> None:
    """Serve until interrupted. Raises :class:`RunStopped` when no server is configured, or it does not answer."""
    if not PREFECT_API_URL.value():
        raise RunStopped(
            "ipa serve needs a Prefect server: start one with `prefect server start`, and set "
            "PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    check_configured()
    served = deployments(flow)
    for deployment in served:
        deployment.apply()
    put_automations()  # A run that ends with this process is called crashed, and run again by the next one.
    serve(*served)
