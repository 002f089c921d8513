"""Deploys everything on a server of its own and does what people do: see deployments/smoke.sh.

The pipeline's storage, stages, training and evaluation are real; generator and pose extractor are the tests' fakes, so
that faults come when they are called for and a challenger is better or worse than the champion by intent.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

ROOT = Path(__file__).resolve().parent.parent
GOOD, WORSE = 4, 2
"""Ranks of LoRAs that the smoke test's model makes better and worse hands with."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Deploys everything on a server of its own and does what people do.")
    parser.add_argument(
        "--folder", type=Path, help="where it all goes; default: a temporary folder, removed at the end"
    )
    names = [step.__name__ for step in STEPS]
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"some of {', '.join(names)}; default: all")
    options = parser.parse_args()
    unknown = set(options.steps) - set(names)
    if unknown:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ipa-smoke-"))
    try:
        with ExitStack() as stack:
            site = Site(folder.resolve())
            site.start(stack)
            for step in (step for step in STEPS if not options.steps or step.__name__ in options.steps):
                started = time.monotonic()
                said = step(site)
                print(
                    f"ok  {(step.__doc__ or '').splitlines()[0]} {said} [{time.monotonic() - started:.0f} s]",
                    flush=True,
                )
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Site:
    """One server with its database and two workers, all on loopback and all below ``folder``."""

    folder: Path
    told: list[str] = field(default_factory=list)
    """What the web hook was told."""
    environment: dict[str, str] = field(default_factory=dict)
    server: subprocess.Popen[bytes] | None = None

    @property
    def fault(self) -> Path:
        """While this file is there, the generator fails."""
        return self.folder / "fault"

    @property
    def config(self) -> Path:
        return self.folder / "run.yaml"

    def start(self, stack: ExitStack) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        database = stack.enter_context(postgres(self.folder / "postgres"))
        hook = stack.enter_context(web_hook(self.told))
        port = free_port()
        self.environment = {
            **os.environ,
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_API_DATABASE_CONNECTION_URL": database,
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PYTHONPATH": str(ROOT),
            "PYTHON": sys.executable,
            "IPA_HOME": str(self.folder / "store"),
            "IPA_COMPONENTS": "tests.smoke_components:COMPONENTS",
            "IPA_SMOKE_FAULT": str(self.fault),
            "IPA_SMOKE_SECONDS": "1",
            "IPA_NOTIFY_URL": hook,
        }
        os.environ.update(self.environment)
        self.serve()
        stack.callback(lambda: end(self.server))
        self._prepare()
        self.command("sh", "deployments/deploy.sh")
        point_deployments_at(self.config)
        for pool in ("cpu", "gpu"):
            worker = self.spawn(f"worker-{pool}", sys.executable, "-m", "prefect", "worker", "start", "--pool", pool)
            stack.callback(end, worker)

    def serve(self) -> None:
        port = self.environment["PREFECT_API_URL"].rpartition(":")[2].removesuffix("/api")
        self.server = self.spawn("server", "sh", "deployments/server.sh", "--host", "127.0.0.1", "--port", port)
        wait("the server's answer", server_answers, patience=180)

    def spawn(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """In a process group of its own; its output goes to a log below the folder."""
        log = (self.folder / f"{name}.log").open("ab")
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True)

    def command(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    def prefect(self, *arguments: str) -> str:
        return self.command(sys.executable, "-m", "prefect", *arguments)

    def _prepare(self) -> None:
        import yaml

        from tests.fakes import fake_config, write_videos

        write_videos(self.folder / "videos", 8)
        changes = {"alignment__rank": GOOD, "alignment__alpha": 4, "rounds__min_clips": 2, "execution__store": None}
        config = fake_config(self.folder, **changes)
        self.config.write_text(yaml.safe_dump(config.model_dump(mode="json")))

    def runs(self) -> list[dict[str, Any]]:
        """`ipa status`, newest first."""
        found: list[dict[str, Any]] = json.loads(self.command(sys.executable, "-m", "flows.cli", "status", "--json"))
        return found

    def models(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.command(sys.executable, "-m", "flows.cli", "models", "--json"))
        return found


# What people do. Each step says in its first line what it shows.


def schedule_fires(site: Site) -> str:
    """The schedule fires, its run completes; a second is cancelled meanwhile; a batch's name and log name clips."""
    # At least half a minute ahead: the server looks for new schedules every few seconds.
    when = datetime.now(UTC) + timedelta(seconds=90)
    site.prefect(
        "deployment", "schedule", "create", RETRAIN, "--cron", f"{when.minute} {when.hour} * * *", "--timezone", "UTC"
    )
    first = wait("the scheduled run", lambda: next(iter(runs_of(RETRAIN, "RUNNING")), None), patience=180)
    second = finished(start(RETRAIN))
    expect("the second run", second.state.type.value, "CANCELLED")
    done = finished(first.id)
    expect("the scheduled run", done.state.message, "completed")
    site.prefect("deployment", "schedule", "clear", RETRAIN, "-y")
    clips = next(stage for stage in stages_of(done) if stage.name.startswith("clips"))
    tasks = wait("the tasks of the stage clips", lambda: tasks_of(clips))
    unread = [task.name for task in tasks if not re.fullmatch(r"clips: batch \d of \d", task.name)]
    expect("names of its batches that a person can't read", unread, [])
    expect("its log", "video-0000.mp4" in wait("its log", lambda: log_of(tasks[0])), True)
    return (
        f"'{done.name}' was auto-scheduled ({first.auto_scheduled}): {done.state.message}; the second: {second.state}"
    )


def promoted_once(site: Site) -> str:
    """The first LoRA beats the base model and is promoted; the run again finds nothing new and promotes nothing."""
    before = site.models()
    expect("roles", [model["role"] for model in before], ["champion"])
    again = finished(start(RETRAIN))
    expect("the run again", (again.state.type.value, again.state.message), ("COMPLETED", "nothing_new"))
    expect("its stages", {run.state.name for run in stages_of(again)}, {"Cached"})
    expect("the registry", site.models(), before)
    return f"champion {before[0]['adapter'][:12]}; again: {again.state.message}, all stages Cached"


def failed_stage_is_retried(site: Site) -> str:
    """A generator that fails: the run fails, is run again once, the web hook is told; a retry from the API mends it."""
    site.fault.touch()
    run = start(RETRAIN, changes=["candidates.seed=1", f"alignment.rank={WORSE}"])
    expect("the run", finished(run).state.type.value, "FAILED")
    second = wait("the automation's run", lambda: next(iter(runs_of(AGAIN)), None))
    expect("the second attempt", finished(second.id).state.type.value, "FAILED")
    wait("the web hook", lambda: site.told)
    time.sleep(5)
    expect("attempts by the automation", len(runs_of(AGAIN)), 1)
    site.fault.unlink()
    retry(run)
    expect("the retried run", finished(run, attempt=2).state.message, "completed")
    states = {stage.name.partition(",")[0]: stage.state.name for stage in stages_of(read(run))}
    before = {name: states[name] for name in ("clips", "poses")}
    expect("stages before the fault", before, {"clips": "Cached", "poses": "Cached"})
    counts = table(site.runs()[0])
    # The first batch was committed before the fault.
    expect("candidates", counts["candidates"]["cached"] > 0 and counts["candidates"]["computed"] > 0, True)
    return f"told: '{site.told[0][:60]}...'; retried: candidates {counts['candidates']}"


def refused_once(site: Site) -> str:
    """The worse LoRA of that run was refused, once: also after the run again."""
    start_again = finished(start(RETRAIN, changes=["candidates.seed=1", f"alignment.rank={WORSE}"]))
    expect("the run again", start_again.state.message, "nothing_new")
    roles = sorted(model["role"] for model in site.models())
    expect("roles", roles, ["challenger", "champion"])
    refused = next(model for model in site.models() if model["role"] == "challenger")
    return f"{refused['adapter'][:12]}: {refused['decided']['reason']}"


def stage_deployment(site: Site) -> str:
    """The deployment of a stage finds its inputs in the last run: a run of `scores` with refresh redoes the scores."""
    before = site.runs()[0]["run_id"]
    done = finished(start("retrain/scores", parameters={"run": before, "refresh": ["scores"]}))
    expect("its end", done.state.type.value, "COMPLETED")
    computed = {name: row["computed"] for name, row in table(site.runs()[0]).items() if row["computed"]}
    expect("what was computed", list(computed), ["scores"])
    return f"'{done.name}': computed {computed}"


def killed_worker(site: Site) -> str:
    """The process of a run is killed in the middle of a batch: crashed, run again once, nothing computed twice."""
    attempts, made = len(runs_of(AGAIN)), candidates_in(site)
    run = start(RETRAIN, changes=["candidates.seed=2"])
    wait("candidates", lambda: candidates_in(site) > made)
    os.kill(process_of_last_run(site), signal.SIGKILL)
    expect("the killed run", finished(run).state.type.value, "CRASHED")
    wait("the automation's run", lambda: len(runs_of(AGAIN)) > attempts)
    again = finished(runs_of(AGAIN)[0].id)
    expect("the second attempt", again.state.message, "completed")
    counts = table(site.runs()[0])["candidates"]
    expect("candidates of the killed run are kept", counts["cached"] > 0, True)
    return f"'{again.name}': candidates {counts}"


def restarted_server(site: Site) -> str:
    """The server is killed and started again in the middle of a run; the run completes."""
    made = candidates_in(site)
    run = start(RETRAIN, changes=["candidates.seed=3"])
    wait("candidates", lambda: candidates_in(site) > made)
    end(site.server, signal.SIGKILL)
    time.sleep(3)
    site.serve()
    done = finished(run)
    expect("the run", done.state.message, "completed")
    return f"'{done.name}': {done.state.message}"


def handed_over(site: Site) -> str:
    """Model stages go to the GPU pool's deployment; the run on the CPU pool computes none of them itself."""
    before = len(runs_of(GENERATE))
    run = start(RETRAIN, changes=["candidates.seed=4", f"execution.hand_over={GENERATE}"])
    expect("the run", finished(run).state.message, "completed")
    names = [run.name.partition(",")[0] for run in runs_of(GENERATE)[: len(runs_of(GENERATE)) - before]]
    expect("what the GPU pool did", sorted(names), ["candidates", "evaluation", "finetune"])
    return f"on the GPU pool: {', '.join(reversed(names))}"


RETRAIN, AGAIN, GENERATE = "retrain/retrain", "retrain/again", "retrain/generate"
STEPS: list[Callable[[Site], str]] = [
    schedule_fires,
    promoted_once,
    failed_stage_is_retried,
    refused_once,
    stage_deployment,
    killed_worker,
    restarted_server,
    handed_over,
]


# The server as its users see it: through the API.


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

    return wait(f"the end of run {run}", found, patience=300)


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


def point_deployments_at(config: Path) -> None:
    """As if `configs/demo.yaml` in deployments/prefect.yaml had been edited; without the weekly schedule."""
    from prefect.client.schemas.actions import DeploymentUpdate

    os.environ["IPA_SMOKE_CONFIG"] = str(config)
    with client() as api:
        found = api.read_deployment_by_name(RETRAIN)
        for schedule in found.schedules:
            api.delete_deployment_schedule(found.id, schedule.id)
        api.update_deployment(found.id, DeploymentUpdate(parameters={"config": {"path": str(config)}}))


def server_answers() -> bool:
    import httpx

    try:
        return httpx.get(f"{os.environ['PREFECT_API_URL']}/health", timeout=5).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def candidates_in(site: Site) -> int:
    """Items of the stage that are in the store."""
    return sum(1 for _ in (site.folder / "store" / "actions" / "candidates").rglob("*.json"))


def process_of_last_run(site: Site) -> int:
    newest = max((site.folder / "store" / "runs").iterdir())
    return int(json.loads((newest / "progress.json").read_text())["process"])


def table(run: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Counts by stage."""
    return {
        row["name"]: {count: row[count] for count in ("items", "cached", "computed", "failed")} for row in run["stages"]
    }


def wait(what: str, found: Callable[[], Any], *, patience: float = 120) -> Any:
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


# Processes.


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of a new database on loopback."""
    # PostgreSQL refuses to run as root; its packages bring a user for it.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder.mkdir()
    if user:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        # It must reach its folder below those of others.
        for parent in folder.parents[: len(folder.parents) - len(Path(tempfile.gettempdir()).parents) - 1]:
            parent.chmod(parent.stat().st_mode | 0o011)
    port = free_port()
    data = folder / "data"
    options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -p {port}"
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run([*user, binary("initdb"), "-D", data, "--auth", "trust", "--username", "ipa"], **quiet)
    control = [*user, binary("pg_ctl"), "-D", data]
    subprocess.run([*control, "-w", "-l", folder / "log", "-o", options, "start"], **quiet)
    try:
        yield f"postgresql+asyncpg://ipa@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


def binary(name: str) -> str:
    found = shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default=None)
    if found is None:
        raise SystemExit(f"{name} is missing: apt-get install postgresql")
    return found


@contextmanager
def web_hook(told: list[str]) -> Iterator[str]:
    """The URL of a server that keeps what is posted to it."""

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.append(json.loads(body)["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def end(process: subprocess.Popen[bytes] | None, how: signal.Signals = signal.SIGTERM) -> None:
    """End a process and those that it started."""
    if process is None or process.poll() is not None:
        return
    os.killpg(process.pid, how)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
