"""The server that a run brings along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOLD = """
import os, signal, sys
from prefect.settings import PREFECT_API_URL
from flows.orchestration.server import prefect_server
with prefect_server():
    print(PREFECT_API_URL.value(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def servers(marker: str) -> list[int]:
    """Processes of `flows.orchestration.server` whose environment holds the marker."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = b"flows.orchestration.server" in (process / "cmdline").read_bytes()
            if ours and marker.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_it_ends_with_a_killed_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", HOLD], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.startswith("http://127.0.0.1:")
    deadline = time.monotonic() + 30
    while servers(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert servers(str(tmp_path)) == []


RUN = """
from prefect import flow, get_run_logger
from prefect.logging.handlers import APILogWorker
from flows.orchestration.server import prefect_server

@flow
def talk():
    get_run_logger().info("the last words of a run")

with prefect_server():
    talk()
print("still sending:", len(APILogWorker._instances))
"""


@pytest.mark.slow
def test_it_ends_after_the_run_s_last_words_have_reached_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path)}
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, str(tmp_path / "run.py")]
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "still sending: 0\n", done.stderr


THREAD = """
import threading
from prefect.settings import PREFECT_API_URL
from flows.orchestration.server import prefect_server

seen = []
with prefect_server():
    thread = threading.Thread(target=lambda: seen.append(PREFECT_API_URL.value()))
    thread.start()
    thread.join()
    print(seen == [PREFECT_API_URL.value()], PREFECT_API_URL.value() is not None)
print(PREFECT_API_URL.value())
"""


@pytest.mark.slow
def test_threads_know_it_too_and_nobody_afterwards(tmp_path: Path) -> None:
    """Prefect starts a temporary server of its own, which outlives the run, for whoever knows none."""
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", THREAD], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "True True\nNone\n", done.stderr
