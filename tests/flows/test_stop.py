"""A command that is told to stop: Ctrl-C in a real terminal, SIGTERM, and a second signal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from ipa_core.config import PosesConfig
from ipa_core.records import PoseSequence
from tests.fakes import FAKES, FakeExtractor, fake_config, write_videos

ROOT = Path(__file__).parents[2]
CTRL_C = b"\x03"


class Waiting(FakeExtractor):
    """Extracts one pose and hangs at the second, for which it leaves the file that WAITS_AT names."""

    poses = 0

    def extract(self, frames: np.ndarray) -> PoseSequence:
        Waiting.poses += 1
        if Waiting.poses == 2:
            Path(os.environ["WAITS_AT"]).touch()
            time.sleep(600)
        return super().extract(frames)


def waiting(config: PosesConfig) -> FakeExtractor:
    return Waiting(config)


WAITING = replace(FAKES, pose_extractor=waiting)  # type: ignore[arg-type]


def in_terminal(command: list[str], folder: Path, stop: Callable[[int, int], None]) -> tuple[int, str]:
    """Exit code and output of a command in a terminal of its own; ``stop`` gets its process and the terminal as soon as
    the second pose is under way."""
    sign = folder / "waits"
    process, terminal = pty.fork()
    if process == 0:
        environment = os.environ | {"IPA_COMPONENTS": f"{__name__}:WAITING", "WAITS_AT": str(sign)}
        os.chdir(ROOT)
        for number in (signal.SIGINT, signal.SIGHUP):  # Ignored where the tests run in the background.
            signal.signal(number, signal.SIG_DFL)
        os.execve(command[0], command, environment)
    output = b""
    told = False
    while True:
        if not told and sign.exists():
            stop(process, terminal)
            told = True
        try:
            if select.select([terminal], [], [], 0.05)[0]:
                output += os.read(terminal, 65536)
        except OSError:  # One of the two ends is closed.
            break
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), output.decode(errors="replace")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "code", "said"),
    [
        (lambda process, terminal: os.write(terminal, CTRL_C), 130, "stopped by Ctrl-C"),
        (lambda process, terminal: os.kill(process, signal.SIGTERM), 143, "stopped by SIGTERM"),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_a_run_stops_with_a_line_and_its_record(
    tmp_path: Path, stop: Callable[[int, int], None], code: int, said: str
) -> None:
    write_videos(tmp_path / "videos", 3)
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(fake_config(tmp_path).model_dump(mode="json")))
    found, output = in_terminal([sys.executable, "-m", "flows.cli", "run", str(config)], tmp_path, stop)
    assert found == code
    assert output.count("ipa: ") == 1 and f"ipa: {said}" in output
    assert "Traceback" not in output
    [summary] = (tmp_path / "store" / "runs").glob("*/run.json")
    record = json.loads(summary.read_text())
    assert (record["status"], record["error"]) == ("stopped", said)
    [poses] = [row for row in record["stages"] if row["name"] == "poses"]
    assert (poses["cached"], poses["computed"]) == (0, 1)


@pytest.mark.slow
def test_a_run_whose_terminal_closes_has_its_record(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 3)
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(fake_config(tmp_path).model_dump(mode="json")))
    command = [sys.executable, "-m", "flows.cli", "run", str(config)]
    code, _ = in_terminal(command, tmp_path, lambda process, terminal: os.close(terminal))
    assert code == 128 + signal.SIGHUP
    [summary] = (tmp_path / "store" / "runs").glob("*/run.json")
    record = json.loads(summary.read_text())
    assert (record["status"], record["error"]) == ("stopped", "stopped by SIGHUP")


SLEEPER = """
import signal
import time
from flows.engine.stop import stop_on_signals
signal.signal(signal.SIGINT, signal.default_int_handler)  # Ignored where the tests run in the background.
with stop_on_signals():
    try:
        print("ready", flush=True)
        time.sleep(600)
    finally:
        print("cleaning", flush=True)
        time.sleep(600)
"""


def test_a_second_signal_ends_it_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (143, "\nipa: stopped by Ctrl-C\n")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    command = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", sys.executable, "-c", SLEEPER]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "cleaning\n"
    said = process.stderr.readline() + process.stderr.readline()  # A thread says it, so maybe after "cleaning".
    process.kill()
    process.communicate()
    assert said == "\nipa: stopped by SIGTERM\n"
