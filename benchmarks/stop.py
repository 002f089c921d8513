"""How long `ipa run` takes to end after a signal, in a terminal, in the middle of a stage.

    python benchmarks/stop.py [--stage candidates]

Runs the demo in a temporary folder, three times: Ctrl-C, SIGTERM, and Ctrl-C twice. Each goes on where the one before
was stopped.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CTRL_C = b"\x03"


def twice(process: int, terminal: int) -> None:
    os.write(terminal, CTRL_C)
    time.sleep(0.2)
    os.write(terminal, CTRL_C)


SIGNALS: dict[str, Callable[[int, int], object]] = {
    "Ctrl-C": lambda process, terminal: os.write(terminal, CTRL_C),
    "SIGTERM": lambda process, terminal: os.kill(process, signal.SIGTERM),
    "Ctrl-C twice": twice,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", default="candidates")
    stage = parser.parse_args().stage
    with tempfile.TemporaryDirectory() as folder:
        for name, stop in SIGNALS.items():
            code, seconds, lines = stopped(Path(folder), f"{stage} ".encode(), stop)
            print(f"{name:<13} in {stage}: exit code {code}, {seconds:.1f} s, {lines} line(s) of output", flush=True)


def stopped(folder: Path, stage: bytes, stop: Callable[[int, int], object]) -> tuple[int, float, int]:
    process, terminal = pty.fork()
    if process == 0:
        environment = os.environ | {"IPA_HOME": str(folder / "store")}
        os.execve(
            sys.executable, [sys.executable, "-m", "flows.cli", "run", str(ROOT / "configs/demo.yaml")], environment
        )
    output, after, told = b"", b"", 0.0
    while True:
        if not told and stage in output:
            time.sleep(5)  # An item is under way.
            told = time.monotonic()
            stop(process, terminal)
        if not select.select([terminal], [], [], 0.05)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # The other end is closed.
            break
        output += data
        after += data if told else b""
    _, status = os.waitpid(process, 0)
    lines = [line for line in after.replace(b"^C", b"").splitlines() if line.startswith(b"ipa: ")]
    return os.waitstatus_to_exitcode(status), time.monotonic() - told, len(lines)


if __name__ == "__main__":
    main()
