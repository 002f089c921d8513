"""What Prefect costs a cold run of 6,000 candidates: the same run with it and without it, server included.

1,500 clips x 4 candidates with the fake generator and extractor of the tests, so that what is left is the pipeline
itself. Both sides start from an empty store: ours is the `retrain` flow against a server of its own (SQLite), the
peer the same stages by the same code without an orchestrator.

    python benchmarks/orchestration.py --folder /tmp/orchestration
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
LIMIT = 60.0
"""Seconds that Prefect may cost in all."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ipa-orchestration")
    parser.add_argument("--clips", type=int, default=1500)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=["with", "without"], help="run one side in this process, print its JSON")
    options = parser.parse_args()
    if options.side:
        side = with_prefect if options.side == "with" else without_prefect
        print(json.dumps(side(options.folder)))
        return
    write(options.folder, options.clips)
    sides = {side: measure(options.folder, side) for side in ("without", "with")}
    cost = {
        "wall_seconds": round(sides["with"]["wall_seconds"] - sides["without"]["wall_seconds"], 1),
        "cpu_seconds": round(sides["with"]["cpu_seconds"] - sides["without"]["cpu_seconds"], 1),
    }
    result = {"candidates": 4 * options.clips, **sides, "cost": cost, "limit": LIMIT}
    if options.json:
        print(json.dumps(result))
        return
    for side, found in sides.items():
        server = f", {found['server_seconds']:.1f} s of it the server's" if found["server_seconds"] else ""
        print(
            f"{side + ' Prefect:':<16} {found['wall_seconds']:7.1f} s wall, {found['cpu_seconds']:7.1f} s CPU{server}"
        )
    print(
        f"Prefect's cost:  {cost['wall_seconds']:7.1f} s wall, {cost['cpu_seconds']:7.1f} s CPU (limit {LIMIT:.0f} s)"
    )
    print(f"ratio:           {sides['with']['wall_seconds'] / sides['without']['wall_seconds']:.2f}")


def config(folder: Path, side: str) -> Any:
    from tests.fakes import fake_config

    changes = {"candidates__per_clip": 4, "clips__held_out": 0.1, "selection__threshold": 0.5}
    return fake_config(folder, **changes, execution__store=str(folder / f"store {side}"), execution__workers=2)


def write(folder: Path, clips: int) -> None:
    from tests.fakes import write_video

    for number in range(clips):
        path = folder / "videos" / f"video-{number:04d}.mp4"
        if not path.exists():
            write_video(path, number)


def measure(folder: Path, side: str) -> dict[str, float]:
    """In a process of its own, from an empty store."""
    shutil.rmtree(folder / f"store {side}", ignore_errors=True)
    command = [sys.executable, __file__, "--folder", str(folder), "--side", side]
    environment = {**os.environ, **QUIET, "PREFECT_HOME": str(folder / "prefect")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "IPA_COMPONENTS": "tests.fakes:FAKES",
}


def without_prefect(folder: Path) -> dict[str, float]:
    from flows.engine.run import Run
    from flows.stages import STAGES
    from tests.fakes import FAKES

    meter = Meter()
    with Run(config(folder, "without"), STAGES, FAKES) as run:
        run.walk()
    run.check()
    return meter.read()


def with_prefect(folder: Path) -> dict[str, float]:
    from flows.orchestration.server import prefect_server
    from flows.retrain import retrain

    with prefect_server() as server:
        meter = Meter(server)
        state = retrain(config(folder, "with"), return_state=True)
        found = meter.read()
    assert state.is_completed(), state.message
    return found


class Meter:
    """Wall time, and CPU time of this process, of the children it has waited for, and of the server."""

    def __init__(self, server: int | None = None) -> None:
        self._server = psutil.Process(server) if server else None
        self._wall, self._own, self._servers = time.monotonic(), own_seconds(), self._server_seconds()

    def read(self) -> dict[str, float]:
        server = self._server_seconds() - self._servers
        return {
            "wall_seconds": round(time.monotonic() - self._wall, 1),
            "cpu_seconds": round(own_seconds() - self._own + server, 1),
            "server_seconds": round(server, 1),
        }

    def _server_seconds(self) -> float:
        return sum(self._server.cpu_times()[:2]) if self._server else 0.0


def own_seconds() -> float:
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
