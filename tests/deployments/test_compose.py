"""`deployments/compose.yaml` says what Compose understands, and holds together. No container engine is asked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
COMPOSE = DEPLOYMENTS / "compose.yaml"
TREE: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = TREE["services"]
EXAMPLE = (DEPLOYMENTS / ".env.example").read_text().splitlines()
services = pytest.mark.parametrize("name", SERVICES)

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def test_it_follows_the_schema_of_the_compose_specification() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@services
def test_every_image_is_built_here_or_pinned_by_a_tag(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert image and re.search(r"\d+\.\d+", tag)


@services
def test_ports_are_published_on_loopback_only(name: str) -> None:
    assert [port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")] == []


@services
def test_what_a_service_waits_for_comes_to_pass(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        match wait["condition"]:
            case "service_healthy":
                assert "healthcheck" in SERVICES[other]
            case "service_completed_successfully":
                assert SERVICES[other].get("restart", "no") == "no"
            case condition:
                pytest.fail(f"{name} waits for {other} to be {condition}, which says nothing about whether it works")


def test_every_volume_is_declared_and_used() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    # A folder of the host begins with a variable.
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith("$")}
    assert named == set(TREE["volumes"]) == {"database", "leases", "store", "models"}


def test_every_variable_is_explained_in_the_example_and_the_required_ones_ask_for_it() -> None:
    found = {name: [] for name, _, _ in _VARIABLE.findall(COMPOSE.read_text())}
    for name, kind, text in _VARIABLE.findall(COMPOSE.read_text()):
        found[name].append((kind, text))
    example = dict(
        line.split("=", 1) for line in (DEPLOYMENTS / ".env.example").read_text().splitlines() if "=" in line
    )
    assert set(found) == set(example)
    required = {name for name, uses in found.items() if any(kind == "?" for kind, _ in uses)}
    assert required == {"POSTGRES_PASSWORD", "STORE_ACCESS_KEY", "STORE_SECRET_KEY", "IPA_WEB_TOKEN", "VIDEOS"}
    assert all(f"set {name} in deployments/.env" in text for name in required for kind, text in found[name] if kind)
    assert all(kind == "-" and text == example[name] for name in set(found) - required for kind, text in found[name])


def test_no_secret_stands_in_the_files() -> None:
    secret = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN")
    settings = [entry for service in SERVICES.values() for entry in service.get("environment", {}).items()]
    assert [name for name, value in settings if secret.search(name) and not value.startswith("${")] == []
    assert [line for line in EXAMPLE if secret.search(line.split("=")[0]) and not line.endswith("=")] == []


def test_prefect_knows_every_setting_of_it() -> None:
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_settings_fields

    used = {name for service in SERVICES.values() for name in service.get("environment", {}) if "PREFECT" in name}
    assert "PREFECT_API_URL" in used
    assert used - set(_get_settings_fields(Settings)) == set()


def test_the_server_keeps_its_database_in_postgresql() -> None:
    url = SERVICES["server"]["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
    database = SERVICES["postgres"]["environment"]
    user, name = database["POSTGRES_USER"], database["POSTGRES_DB"]
    assert url == f"postgresql+asyncpg://{user}:${{POSTGRES_PASSWORD}}@postgres:5432/{name}"


def test_workers_have_the_stores_keys_and_bucket() -> None:
    store, worker = SERVICES["store"]["environment"], SERVICES["worker-gpu"]["environment"]
    assert worker["IPA_HOME"].startswith(f"s3://{store['S3_BUCKET']}/")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert worker[key].split(":")[0].rstrip("}") == store[key].rstrip("}")


def test_only_the_gpu_worker_reserves_gpus_and_only_on_request() -> None:
    reserving = {name: service for name, service in SERVICES.items() if "deploy" in service}
    assert list(reserving) == ["worker-gpu"]
    [device] = reserving["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert reserving["worker-gpu"]["profiles"] == ["gpu"]
