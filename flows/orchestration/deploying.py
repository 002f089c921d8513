"""Put the deployments of run configs on the Prefect server, and keep what people changed there.

A config `demo` gets the deployment `retrain/demo` for the whole run, and `retrain/demo-<stage>` for each stage and what
follows it. `retrain/again` and `retrain/generate` are there for all configs. The server keeps a digest of each setting
as it was put, in a variable for each config. A setting that differs from its digest was changed by a person.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
)
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.variables import Variable
from pydantic import ValidationError

from flows.engine.stage import RunStopped, Stage
from flows.engine.walk import Stages
from flows.orchestration.server import check_configured
from flows.orchestration.tasks import GPU_SLOTS
from ipa_core.config import ConfigError
from ipa_core.config_file import load_config
from storage.digest import digest_config

POOLS = ("cpu", "gpu")
# A run whose machine is gone stops beating; an automation then calls it crashed (automations.py).
HEARTBEAT = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
_SLUG = "ipa"
_CANCEL_NEW = ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)


@dataclass(frozen=True)
class Deployment:
    """A deployment as this project wants it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    tags: Sequence[str]
    pool: str
    """Where workers take its runs from: cpu or gpu."""
    alone: bool = False
    """Whether a run is cancelled while another one goes on: two retrainings would fight over the GPUs."""
    schedules: Sequence[DeploymentScheduleCreate] | None = None
    """None: those on the server stay."""

    def settings(self, served: bool) -> dict[str, Any]:
        """Return what a person may change on the server, as JSON values. Served deployments have no work pool."""
        found: dict[str, Any] = {
            "description": self.description,
            "parameters": dict(self.parameters),
            "tags": sorted(self.tags),
            "limit": 1 if self.alone else None,
            "pool": None if served else self.pool,
            "job": {} if served else {"env": HEARTBEAT},
        }
        return found if self.schedules is None else found | {"schedules": _plain(self.schedules)}


def _plain(schedules: Iterable[DeploymentScheduleCreate | DeploymentSchedule]) -> list[dict[str, Any]]:
    fields = {"schedule", "active", "slug", "parameters"}
    return [each.model_dump(mode="json", include=fields) for each in schedules]


def settings_of(found: DeploymentResponse) -> dict[str, Any]:
    """Return the settings of a deployment on the server, in the form of :meth:`Deployment.settings`."""
    limit = found.global_concurrency_limit
    return {
        "description": found.description,
        "parameters": found.parameters,
        "tags": sorted(found.tags),
        "limit": limit.limit if limit else None,
        "pool": found.work_pool_name,
        "job": found.job_variables,
        "schedules": _plain(found.schedules),
    }


def _short(value: Any) -> str:
    """Return a setting as people write it; a schedule by its times."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        times = (each["schedule"] for each in value)
        return " and ".join(" ".join(str(part) for part in time.values() if isinstance(part, str)) for time in times)
    return json.dumps(value)


def _fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as fields of Prefect's API."""
    found = {name: settings[name] for name in ("description", "parameters", "tags") if name in settings}
    if "limit" in settings:
        found["concurrency_limit"] = settings["limit"]
        found["concurrency_options"] = _CANCEL_NEW if settings["limit"] else None
    if "pool" in settings:
        found["work_pool_name"] = settings["pool"]
    if "job" in settings:
        found["job_variables"] = settings["job"]
    if "schedules" in settings:
        found["schedules"] = [DeploymentScheduleCreate.model_validate(each) for each in settings["schedules"]]
    return found


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


@dataclass(frozen=True)
class Wanted:
    """The deployments of some configs, and what they rest on."""

    by_config: Mapping[str, Sequence[Deployment]]
    """By the config's name; the first of each is the whole run."""
    gpus: int | None = None
    """GPU slots that all runs share; None: as on the server, else 1."""
    overwrite: bool = False
    """Whether to undo what people changed."""


SHARED = (
    Deployment(
        "again",
        "The automation runs this once after a failed run, with that run's parameters. It continues there.",
        {},
        ("second attempt",),
        "cpu",
    ),
    Deployment(
        "generate",
        "The candidates only, on a machine with a GPU. `execution.hand_over` names this deployment.",
        {"run": "last", "first": "candidates", "last": "candidates"},
        ("hand over",),
        "gpu",
    ),
)
"""Deployments of all configs."""


def wanted_deployments(
    stages: Stages, configs: Sequence[str], cron: str | None, timezone: str, gpus: int | None, overwrite: bool
) -> Wanted:
    """Read the configs and say what is wanted for them. Raises :class:`ConfigError` for a config or a schedule that
    can't be used, and when two configs have one name."""
    schedules = None if cron is None else (_schedule(cron, timezone),)
    found: dict[str, Sequence[Deployment]] = {}
    for path in configs:
        name = load_config(Path(path)).name
        if name in found:
            raise ConfigError(f"{path}: another config is named {name} too; give each its own name (field `name`)")
        if name in {deployment.name for deployment in SHARED}:
            raise ConfigError(f"{path}: name: a deployment of all configs is named {name}; choose another name")
        found[name] = tuple(_of_config(stages, name, path, schedules))
    return Wanted(found, gpus, overwrite)


def _of_config(
    stages: Stages, name: str, path: str, schedules: Sequence[DeploymentScheduleCreate] | None
) -> Iterable[Deployment]:
    about = (
        f"The whole run of {path}. It picks up new videos. With nothing new it ends as NothingNew and trains nothing."
    )
    yield Deployment(name, about, {"config": {"path": path}}, (name,), "cpu", True, schedules)
    for number, stage in enumerate(stages, 1):
        yield Deployment(
            f"{name}-{stage.name}",
            f"Stage {number} of {len(stages)}: {stage.name} and all that follows, of the last run of {name}, or of the "
            "run that `run` names.",
            {"run": name, "first": stage.name},
            (name, f"stage {number}"),
            _pool(stage),
        )


def _pool(stage: Stage[Any]) -> Literal["cpu", "gpu"]:
    return "gpu" if stage.place in ("gpu", "train") else "cpu"


def _schedule(cron: str, timezone: str) -> DeploymentScheduleCreate:
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, IsADirectoryError):
        raise ConfigError(f"--timezone: there is no time zone {timezone}; write one such as Europe/Berlin") from None
    try:
        return DeploymentScheduleCreate(schedule=CronSchedule(cron=cron, timezone=timezone), slug=_SLUG)
    except ValidationError:
        raise ConfigError(f"--cron: {cron!r} is no schedule; write one such as '0 3 * * 1', Mondays at 3:00") from None


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
                changed=tuple(f"{key} {_short(there[key])} -> {_short(settings[key])}" for key in sorted(changed)),
                kept=tuple(f"{key} {_short(there[key])}" for key in sorted(kept)),
            )
            here = {key: value for key, value in settings.items() if key not in kept}
        for key, value in here.items():
            memory.remember(name, key, value)
        return put

    def _make(self, settings: Mapping[str, Any]) -> UUID:
        flow = self.client.create_flow_from_name(self.flow.name)
        return self.client.create_deployment(flow, self.wanted.name, **_fields(settings), **self._code())

    def _update(self, deployment: UUID, changed: Mapping[str, Any]) -> None:
        fields = _fields(changed)
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
