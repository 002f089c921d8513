"""Workers killed from outside at random moments: no hang, no traceback, innocent items done, guilty ones named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_workers_take_only_the_guilty_along(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.flows.worker_kills", str(tmp_path), "200", "30"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr, found["failed"], found["named"]) == (0, "", [], True)
