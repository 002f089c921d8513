"""A Prefect server on loopback for one run, where none is configured.

Prefect's own temporary server outlives a killed run. This one holds a pipe to whoever started it, and ends when
that process ends, however that happens.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from flows.engine.parent import end_with_pipe
from flows.engine.stage import RunStopped

_PATIENCE = 180.0
"""Seconds; the first start makes the database."""


def is_configured() -> bool:
    """Whether ``PREFECT_API_URL`` or a profile of Prefect names a server."""
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


@contextmanager
def prefect_server() -> Iterator[int | None]:
    """Within the block there is a Prefect API: the configured one, or our own, a process whose id is given."""
    if is_configured():
        yield None
        return
    print("starting a Prefect server for this run (PREFECT_API_URL is not set)", file=sys.stderr)
    port = _free_port()
    child = subprocess.Popen([sys.executable, "-m", "flows.orchestration.server", str(port)], stdin=subprocess.PIPE)
    try:
        address = f"http://127.0.0.1:{port}/api"
        _wait_for(address, child)
        with _configured(address):
            try:
                yield child.pid
            finally:
                _send_what_waits()
    finally:
        child.terminate()
        child.communicate()


@contextmanager
def _configured(address: str) -> Iterator[None]:
    """For the whole process: settings of a context don't reach threads that Prefect starts, such as the one that passes
    on what processes of a task runner log, and that would start Prefect's own temporary server."""
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = address
    refresh_global_settings_context()
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]
        refresh_global_settings_context()


def _send_what_waits() -> None:
    """Logs and events are sent in batches from the background. Left waiting, they would be tried again and again at the
    process's end, with the server gone: more than a minute."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(address: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and child.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise RunStopped(
        f"the Prefect server did not start within {_PATIENCE:.0f} s (exit code {child.poll()}); set PREFECT_API_URL to "
        "one that runs, or see whether PREFECT_HOME can be written"
    )


def _serve(port: int) -> None:
    end_with_pipe(0)
    os.environ.update(PREFECT_UI_ENABLED="0", PREFECT__SERVER_EPHEMERAL="1", PREFECT__SERVER_FINAL="1")
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(create_app(), host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
