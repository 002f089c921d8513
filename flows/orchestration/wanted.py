"""The deployments that run configs want: their names, parameters, schedules and pools.

A config `demo` gets the deployment `retrain/demo` for the whole run, and `retrain/demo-<stage>` for each stage and what
follows it. `retrain/again` and `retrain/generate` are there for all configs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from pydantic import ValidationError

from flows.engine.stage import Stage
from flows.engine.walk import Stages
from ipa_core.config import ConfigError
from ipa_core.config_file import load_config

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


def as_text(value: Any) -> str:
    """Return a setting as people write it; a schedule by its times."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        times = (each["schedule"] for each in value)
        return " and ".join(" ".join(str(part) for part in time.values() if isinstance(part, str)) for time in times)
    return json.dumps(value)


def fields_of(settings: Mapping[str, Any]) -> dict[str, Any]:
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
