"""Parameters of a run of the flow. Deployments and the UI's form fill them in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from flows.engine.run_folder import named_run
from ipa_core.config import Config, ConfigError, RunConfig
from ipa_core.config_file import load_config
from storage import StoreError


class ConfigFile(Config):
    """A run config in a file, on the machine that the run is on."""

    path: str
    """The YAML file, such as `configs/demo.yaml`; relative to the folder that the run starts in."""
    changes: tuple[str, ...] = ()
    """Fields to change, each as `alignment.beta=200`; the value is YAML."""


def chosen_config(config: RunConfig | ConfigFile | None, run: str | None) -> RunConfig:
    """Return the config for a run. Raises `ConfigError` unless exactly one of ``config`` and ``run`` is given."""
    if (config is None) == (run is None):
        raise ConfigError("name either a config or a run whose config is to be used again, and not both")
    if isinstance(config, RunConfig):
        return config
    if config is not None:
        return load_config(Path(config.path), list(config.changes))
    assert run is not None
    return named_run(run).config()


def parameters_of(flow_run: str) -> dict[str, Any]:
    """Return the parameters of a flow run on the server. Raises `ConfigError` when there is no such run."""
    try:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(UUID(flow_run)).parameters
    except (ValueError, ObjectNotFound):
        raise ConfigError(f"repeat: the Prefect server has no flow run {flow_run}") from None


def run_name(parameters: Mapping[str, Any], stages: Sequence[str]) -> str:
    """Return a run's name in the UI: `demo 20261128-0300`, with `, from scores`, `, only candidates` or `, again`."""
    if parameters.get("repeat"):
        try:
            return run_name(parameters_of(parameters["repeat"]), stages) + ", again"
        except ConfigError:
            return "again"
    config = parameters.get("config") or {}
    config = config.model_dump() if isinstance(config, Config) else config
    about = _config_name(config, parameters.get("run"))
    first, last = parameters.get("first", stages[0]), parameters.get("last", stages[-1])
    name = f"{about} {datetime.now(UTC):%Y%m%d-%H%M}"
    if first == last:
        return f"{name}, only {first}"
    name += f", from {first}" if first != stages[0] else ""
    return name + (f", to {last}" if last != stages[-1] else "")


def _config_name(config: Mapping[str, Any], run: str | None) -> str:
    """Return the name of a run's config; that of its file or run where it can't be read, because the run says why."""
    if "name" in config:
        return str(config["name"])
    try:
        return chosen_config(ConfigFile(**config), None).name if config else named_run(str(run)).name
    except (ConfigError, StoreError, ValidationError):
        return Path(config.get("path", "")).stem or str(run)
