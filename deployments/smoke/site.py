"""One server with its database, its workers and a folder of videos, all on loopback."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from deployments.smoke.server import server_answers, wait

ROOT = Path(__file__).resolve().parent.parent.parent
GOOD, WORSE = 4, 2
"""Ranks of LoRAs that the smoke test's model makes better and worse hands with."""


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
            "IPA_SMOKE_CONFIG": str(self.config),
            "IPA_SMOKE_FAULT": str(self.fault),
            "IPA_SMOKE_SECONDS": "1",
            "IPA_NOTIFY_URL": hook,
        }
        os.environ.update(self.environment)
        self.serve()
        stack.callback(lambda: end(self.server))
        self._prepare()
        self.command(sys.executable, "-m", "flows.cli", "deploy", "--config", str(self.config))
        for pool in ("cpu", "gpu"):
            worker = self.spawn(f"worker-{pool}", sys.executable, "-m", "prefect", "worker", "start", "--pool", pool)
            stack.callback(end, worker)

    def serve(self) -> None:
        port = self.environment["PREFECT_API_URL"].rpartition(":")[2].removesuffix("/api")
        self.server = self.spawn("server", "sh", "deployments/server.sh", "--host", "127.0.0.1", "--port", port)
        wait("the server's answer", server_answers)

    def spawn(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """In a process group of its own; its output goes to a log below the folder."""
        log = (self.folder / f"{name}.log").open("ab")
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True)

    def said(self, text: str) -> bool:
        """Whether a process wrote the text into its log."""
        return any(text in log.read_text(errors="replace") for log in self.folder.glob("*.log"))

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

        from tests.fakes import fake_config, write_parted_videos

        # Enough to train on that some candidates come before a fault and some after it.
        write_parted_videos(self.folder / "videos", (0.4,), {("train",): 5, ("held_out",): 4})
        changes: dict[str, object] = {"alignment__rank": GOOD, "alignment__alpha": 4, "rounds__min_clips": 2}
        # Only version 1 of the score counts a hand's presence, by which the fake model tells good hands from bad ones.
        changes |= {"scores__version": 1, "execution__store": None}
        config = fake_config(self.folder, **changes)
        self.config.write_text(yaml.safe_dump(config.model_dump(mode="json")))

    def candidates(self) -> int:
        """Items of the stage that are in the store."""
        return sum(1 for _ in (self.folder / "store" / "actions" / "candidates").rglob("*.json"))

    def process_of_last_run(self) -> int:
        newest = max((self.folder / "store" / "runs").iterdir())
        return int(json.loads((newest / "progress.json").read_text())["process"])

    def runs(self) -> list[dict[str, Any]]:
        """`ipa status`, newest first."""
        found: list[dict[str, Any]] = json.loads(self.command(sys.executable, "-m", "flows.cli", "status", "--json"))
        return found

    def models(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.command(sys.executable, "-m", "flows.cli", "models", "--json"))
        return found


def table(run: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Counts by stage."""
    return {
        row["name"]: {count: row[count] for count in ("items", "cached", "computed", "failed")} for row in run["stages"]
    }


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
