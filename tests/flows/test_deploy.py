"""`ipa deploy` on a real Prefect server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from ipa_core.config import ConfigError
from tests.fakes import fake_config
from tests.flows.servers import prefect_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
WEEKLY = ("--cron", "0 3 * * 1", "--timezone", "Europe/Berlin")


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    with prefect_server():
        yield


@pytest.fixture
def config(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return write_config(tmp_path, f"config-{abs(hash(request.node.name))}")


def write_config(folder: Path, name: str) -> Path:
    import yaml

    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(fake_config(folder).model_dump(mode="json") | {"name": name}))
    return path


def deploy(*arguments: str | Path) -> str:
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()
    done = CliRunner().invoke(app, ["deploy", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def api() -> Any:
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def read(name: str) -> Any:
    with api() as client:
        return client.read_deployment_by_name(f"retrain/{name}")


def crons(name: str) -> list[tuple[str, str, bool]]:
    return [(each.schedule.cron, each.schedule.timezone, each.active) for each in read(name).schedules]


def change_schedule(name: str, cron: str, *, active: bool) -> None:
    """Change it as a person does in the UI."""
    from prefect.client.schemas.schedules import CronSchedule

    found = read(name)
    with api() as client:
        client.update_deployment_schedule(
            found.id, found.schedules[0].id, active=active, schedule=CronSchedule(cron=cron, timezone="UTC")
        )


@pytest.mark.usefixtures("server")
class TestDeploy:
    def test_a_config_gets_the_whole_run_and_each_stage(self, config: Path) -> None:
        deploy("--config", config, *WEEKLY)
        name = config.stem
        assert crons(name) == [("0 3 * * 1", "Europe/Berlin", True)]
        assert read(name).parameters == {"config": {"path": str(config)}}
        assert read(f"{name}-scores").parameters == {"run": name, "first": "scores"}
        assert set(read(f"{name}-scores").tags) == {name, "stage 4"}
        assert [read(f"{name}-{stage}").work_pool_name for stage in ("scores", "finetune")] == ["cpu", "gpu"]

    def test_a_second_deploy_changes_nothing(self, config: Path) -> None:
        deploy("--config", config, *WEEKLY)
        said = deploy("--config", config, *WEEKLY)
        assert ": changed" not in said and f"retrain/{config.stem}: unchanged" in said

    def test_another_schedule_replaces_ours(self, config: Path) -> None:
        deploy("--config", config, *WEEKLY)
        said = deploy("--config", config, "--cron", "0 4 * * *")
        assert crons(config.stem) == [("0 4 * * *", "UTC", True)]
        assert "changed schedules 0 3 * * 1 Europe/Berlin -> 0 4 * * * UTC" in said

    def test_a_schedule_that_a_person_changed_stays_and_is_told(self, config: Path) -> None:
        deploy("--config", config, *WEEKLY)
        change_schedule(config.stem, "30 5 * * *", active=False)
        said = deploy("--config", config, *WEEKLY)
        assert crons(config.stem) == [("30 5 * * *", "UTC", False)]
        assert "kept what people changed: schedules 30 5 * * * UTC (--overwrite puts ours)" in said

    def test_overwrite_puts_ours(self, config: Path) -> None:
        deploy("--config", config, *WEEKLY)
        change_schedule(config.stem, "30 5 * * *", active=False)
        deploy("--config", config, *WEEKLY, "--overwrite")
        assert crons(config.stem) == [("0 3 * * 1", "Europe/Berlin", True)]

    def test_without_cron_the_schedule_stays(self, config: Path) -> None:
        deploy("--config", config, *WEEKLY)
        deploy("--config", config)
        assert crons(config.stem) == [("0 3 * * 1", "Europe/Berlin", True)]

    def test_two_configs_have_deployments_and_a_second_attempt_of_their_own(self, tmp_path: Path) -> None:
        from prefect.automations import Automation

        first, second = (write_config(tmp_path, name) for name in ("ann", "ben"))
        deploy("--config", first, "--config", second)
        for name in ("ann", "ben"):
            found: Any = Automation.read(name=f"ipa: run a failed {name} again, once")
            related: Any = found.trigger.match_related
            assert related["prefect.resource.id"] == [f"prefect.deployment.{read(name).id}"]

    def test_an_automation_that_a_person_switched_off_stays_off(self, config: Path) -> None:
        from prefect.automations import Automation

        deploy("--config", config)
        found: Any = Automation.read(name=f"ipa: run a failed {config.stem} again, once")
        found.disable()
        deploy("--config", config)
        again: Any = Automation.read(name=found.name)
        assert not again.enabled

    def test_the_gpu_slots_stay_unless_they_are_given(self, config: Path) -> None:
        def slots() -> int:
            with api() as client:
                return int(client.read_global_concurrency_limit_by_name("gpu").limit)

        deploy("--config", config, "--gpus", "3")
        deploy("--config", config)
        assert slots() == 3
        deploy("--config", config, "--gpus", "1")
        assert slots() == 1

    def test_a_served_deployment_has_no_pool_and_what_people_changed(self, config: Path) -> None:
        from flows.orchestration.deploying import put_deployments
        from flows.orchestration.serving import as_on_server
        from flows.orchestration.wanted import wanted_deployments
        from flows.retrain import retrain
        from flows.stages import STAGES

        deploy("--config", config, *WEEKLY)
        change_schedule(config.stem, "30 5 * * *", active=False)
        put_deployments(retrain, wanted_deployments(STAGES, [str(config)], None, "UTC", None, False), pool_type=None)
        as_on_server(retrain, read(config.stem)).apply()
        found = read(config.stem)
        assert (found.work_pool_name, crons(config.stem)) == (None, [("30 5 * * *", "UTC", False)])
        assert found.global_concurrency_limit.limit == 1


def refusal(*arguments: str | Path) -> str:
    with pytest.raises(ConfigError) as refused:
        deploy(*arguments)
    return str(refused.value)


def test_a_wrong_time_is_refused(config: Path) -> None:
    assert "--cron: 'weekly' is no schedule" in refusal("--config", config, "--cron", "weekly")


def test_an_unknown_time_zone_is_refused(config: Path) -> None:
    said = refusal("--config", config, "--cron", "0 3 * * 1", "--timezone", "Berlin")
    assert said == "--timezone: there is no time zone Berlin; write one such as Europe/Berlin"


def test_two_configs_of_one_name_are_refused(config: Path) -> None:
    assert f"another config is named {config.stem} too" in refusal("--config", config, "--config", config)


def test_a_config_that_is_not_there_is_refused() -> None:
    assert refusal("--config", "nowhere.yaml") == "there is no config file nowhere.yaml; `ipa init` writes one"
