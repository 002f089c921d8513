"""A Prefect server on loopback for one run, if none is configured.

Prefect's own temporary server outlives a killed run. This one holds a pipe to the process that started it and ends with
that process, even if it is killed.
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
from flows.engine.progress import Progress
from flows.engine.stage import RunStopped

_PATIENCE = 180.0
"""Seconds to wait for the server; its first start makes the database."""


def is_configured() -> bool:
    """Return whether ``PREFECT_API_URL`` or a profile of Prefect names a server."""
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


def configured_address() -> str:
    """Return the address of the configured server."""
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value())


def check_configured() -> None:
    """Raises :class:`RunStopped` when the configured server does not answer."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    try:
        with get_client(sync_client=True) as client:
            trouble = client.api_healthcheck()
    except (RuntimeError, httpx.HTTPError) as error:
        trouble = error
    if trouble is not None:
        raise RunStopped(
            f"no Prefect server answers at {PREFECT_API_URL.value()} ({trouble}): start it with "
            "`prefect server start`, or name another in PREFECT_API_URL"
        )


@contextmanager
def prefect_server() -> Iterator[int | None]:
    """Give the block a Prefect API. Yield the process id of our own server; None if one is configured. Raises
    :class:`RunStopped` when that one does not answer."""
    if is_configured():
        check_configured()
        yield None
        return
    Progress().line("starting a Prefect server for this run (PREFECT_API_URL is not set)")
    port = _free_port()
    command = [sys.executable, "-m", "flows.orchestration.server", str(port)]
    # In a session of its own, because the run still has to tell it about a Ctrl-C. The pipe ends it.
    child = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}/api"
        _wait_for(address, child)
        with _configured(address):
            try:
                yield child.pid
            finally:
                _send_what_waits()
    finally:
        child.kill()
        child.communicate()


@contextmanager
def _configured(address: str) -> Iterator[None]:
    """Set the address for the whole process. Settings of a context don't reach threads that Prefect starts, such as the
    one that passes on a task runner's logs. Such a thread would start Prefect's own temporary server."""
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = address
    refresh_global_settings_context()
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]
        refresh_global_settings_context()


def _send_what_waits() -> None:
    """Send the waiting logs and events. Prefect sends them in batches from the background. At the process's end, with
    the server gone, it would try again and again for more than a minute."""
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
            with urllib.request.urlopen(f"{address}/health", timeout=5):  # nosec B310
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
