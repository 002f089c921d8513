"""Put the deployments of run configs on the Prefect server, and keep what people changed there.

The server keeps a digest of each setting as it was put, in a variable for each config. A setting that differs from its
digest was changed by a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleUpdate,
    DeploymentUpdate,
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
)
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.variables import Variable

from flows.engine.stage import RunStopped
from flows.orchestration.server import check_configured
from flows.orchestration.tasks import GPU_SLOTS
from flows.orchestration.wanted import SHARED, Deployment, Wanted, as_text, fields_of, settings_of
from storage.digest import digest_config

POOLS = ("cpu", "gpu")


@dataclass(frozen=True)
class Put:
    """What became of a deployment on the server."""

    name: str
    id: UUID
    made: bool
    changed: tuple[str, ...] = ()
    """What is another now, with both values."""
    kept: tuple[str, ...] = ()
    """What a person changed, and stays."""

    def sentence(self) -> str:
        changed = [f"changed {', '.join(self.changed)}"] if self.changed else []
        kept = [f"kept what people changed: {', '.join(self.kept)} (--overwrite puts ours)"] if self.kept else []
        about = "made" if self.made else "; ".join(changed + kept) or "unchanged"
        return f"retrain/{self.name}: {about}"


def needs_server(command: str) -> None:
    """Raise :class:`RunStopped` unless a Prefect server is configured and answers."""
    if not PREFECT_API_URL.value():
        raise RunStopped(
            f"{command} needs a Prefect server: start one with `sh deployments/server.sh` or `prefect server start`, "
            "and set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    check_configured()


def put_deployments(flow: Flow[Any, Any], wanted: Wanted, *, pool_type: str | None) -> list[Put]:
    """Put the deployments on the server, and the GPU slots. With ``pool_type`` their runs wait in the work pools `cpu`
    and `gpu`, which are made if they are missing; without, this process serves them."""
    found = []
    with get_client(sync_client=True) as client:
        _put_slots(client, wanted.gpus)
        if pool_type is not None:
            _put_pools(client, pool_type)
        for group, deployments in {"": SHARED, **wanted.by_config}.items():
            memory = _Memory(group)
            for deployment in deployments:
                one = _Deploy(client, flow, deployment, served=pool_type is None)
                found.append(one.put(memory, wanted.overwrite))
            memory.save()
    return found


def earlier_deployments() -> list[str]:
    """Return the scheduled deployments of the form that versions before `ipa deploy` made; they still start runs."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name("retrain/retrain")
        except ObjectNotFound:
            return []
    return ["retrain/retrain"] if any(schedule.active for schedule in found.schedules) else []


class _Memory:
    """Digests of the settings that were put last, on the server."""

    def __init__(self, group: str) -> None:
        self._name = f"ipa-deployed-{digest_config(group)[:12]}"
        self._group = group
        held: Any = Variable.get(self._name, default={})
        self._digests: dict[str, dict[str, str]] = dict(held.get("settings", {}))

    def is_ours(self, deployment: str, name: str, value: Any) -> bool:
        return self._digests.get(deployment, {}).get(name) == _digest(value)

    def remember(self, deployment: str, name: str, value: Any) -> None:
        self._digests.setdefault(deployment, {})[name] = _digest(value)

    def save(self) -> None:
        Variable.set(self._name, {"config": self._group, "settings": self._digests}, overwrite=True)


def _digest(value: Any) -> str:
    return digest_config(value)[:12]


@dataclass(frozen=True)
class _Deploy:
    """One deployment on its way to the server."""

    client: SyncPrefectClient
    flow: Flow[Any, Any]
    wanted: Deployment
    served: bool

    def put(self, memory: _Memory, overwrite: bool) -> Put:
        name, settings = self.wanted.name, self.wanted.settings(self.served)
        try:
            found = self.client.read_deployment_by_name(f"{self.flow.name}/{name}")
        except ObjectNotFound:
            put = Put(name, self._make(settings), made=True)
            here = settings
        else:
            there = settings_of(found)
            differing = {key for key, value in settings.items() if there[key] != value}
            kept = set() if overwrite else {key for key in differing if not memory.is_ours(name, key, there[key])}
            changed = differing - kept
            self._update(found.id, {key: settings[key] for key in changed})
            put = Put(
                name,
                found.id,
                made=False,
                changed=tuple(f"{key} {as_text(there[key])} -> {as_text(settings[key])}" for key in sorted(changed)),
                kept=tuple(f"{key} {as_text(there[key])}" for key in sorted(kept)),
            )
            here = {key: value for key, value in settings.items() if key not in kept}
        for key, value in here.items():
            memory.remember(name, key, value)
        return put

    def _make(self, settings: Mapping[str, Any]) -> UUID:
        flow = self.client.create_flow_from_name(self.flow.name)
        return self.client.create_deployment(flow, self.wanted.name, **fields_of(settings), **self._code())

    def _update(self, deployment: UUID, changed: Mapping[str, Any]) -> None:
        fields = fields_of(changed)
        if "schedules" in fields:
            fields["schedules"] = [DeploymentScheduleUpdate(**dict(each)) for each in fields["schedules"]]
        self.client.update_deployment(deployment, DeploymentUpdate(**fields, **self._code()))

    def _code(self) -> dict[str, Any]:
        """Return what is no setting: where the flow is, and what its form looks like."""
        return {
            "entrypoint": f"{self.flow.fn.__module__}.{self.flow.fn.__name__}",
            # Workers run in the folder that was deployed from, so relative paths of configs hold.
            "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(Path.cwd())}}],
            "parameter_openapi_schema": self.flow.parameters.model_dump(exclude_unset=True),
            "enforce_parameter_schema": True,
        }


def _put_slots(client: SyncPrefectClient, gpus: int | None) -> None:
    try:
        client.read_global_concurrency_limit_by_name(GPU_SLOTS)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU_SLOTS, limit=gpus or 1))
    else:
        if gpus is not None:
            client.update_global_concurrency_limit(GPU_SLOTS, GlobalConcurrencyLimitUpdate(limit=gpus))


def _put_pools(client: SyncPrefectClient, kind: str) -> None:
    for pool in POOLS:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=pool, type=kind))
