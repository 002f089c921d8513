"""`ipa deploy` and `ipa serve`: scheduled runs on a Prefect server."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flows.orchestration.deploying import Put

Configs = Annotated[
    list[str],
    typer.Option("--config", help="A run config; its field `name` names the deployments. May be given several times."),
]
Cron = Annotated[
    str | None,
    typer.Option(help="When the runs start, such as '0 3 * * 1'. Without it the schedule on the server stays."),
]
Timezone = Annotated[str, typer.Option(help="Time zone of --cron, such as Europe/Berlin.")]
Gpus = Annotated[
    int | None,
    typer.Option(
        min=1, help="Batches of model work that may run at a time, of all runs. Without it: as on the server, else 1."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Put our settings in place of what people changed there.")]


def deploy(
    config: Configs,
    cron: Cron = None,
    timezone: Timezone = "UTC",
    gpus: Gpus = None,
    pool_type: Annotated[
        str, typer.Option(help="Type of the work pools `cpu` and `gpu` if they are missing: process, kubernetes, ...")
    ] = "process",
    overwrite: Overwrite = False,
) -> None:
    """Put configs on the Prefect server, for workers of the pools cpu and gpu. Call it again after a change.

    Settings that people changed on the server stay, unless --overwrite is given.
    """
    _put("ipa deploy", config, cron, timezone, gpus, overwrite, pool_type)


def serve(
    config: Configs, cron: Cron = None, timezone: Timezone = "UTC", gpus: Gpus = None, overwrite: Overwrite = False
) -> None:
    """Put configs on the Prefect server and run them from this process: one machine, no workers."""
    # A run that beats no more has gone, whatever became of this process; see flows.orchestration.automations.
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")
    from flows.engine.stop import give_time
    from flows.orchestration.serving import serve_here
    from flows.retrain import retrain

    give_time(60)
    done = _put("ipa serve", config, cron, timezone, gpus, overwrite, None)
    serve_here(retrain, [put.name for put in done])


def _put(
    command: str,
    configs: list[str],
    cron: str | None,
    timezone: str,
    gpus: int | None,
    overwrite: bool,
    pool_type: str | None,
) -> list[Put]:
    from flows.orchestration.automations import put_automations
    from flows.orchestration.deploying import earlier_deployments, needs_server, put_deployments
    from flows.orchestration.wanted import wanted_deployments
    from flows.retrain import retrain
    from flows.stages import STAGES

    wanted = wanted_deployments(STAGES, configs, cron, timezone, gpus, overwrite)
    needs_server(command)
    done = put_deployments(retrain, wanted, pool_type=pool_type)
    for put in done:
        print(put.sentence())
    ids = {put.name: put.id for put in done}
    for sentence in put_automations({name: ids[name] for name in wanted.by_config}, ids["again"]):
        print(sentence)
    for name in earlier_deployments():
        print(
            f"ipa: {name} was made by an earlier version and its schedule still starts runs; "
            f"`prefect deployment delete {name}` removes it",
            file=sys.stderr,
        )
    return done
