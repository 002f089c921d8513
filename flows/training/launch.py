"""The flow's side of a training. ``accelerate launch`` runs the training in processes of its own, so that a crash of
CUDA takes no flow down.

The flow reads the training's output line by line. Lines of JSON are messages; all others are logged as they are.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flows.training.job import Job

log = logging.getLogger("flows.training")


class TrainingError(Exception):
    """The training ended before its last step. The message says how, after which step, and with which last line."""


@dataclass
class _Heard:
    """The messages of the training so far."""

    step: int = 0
    last_line: str = ""
    error: str | None = None


class _Silence:
    """Kills the process group of a training when its processes print nothing for too long."""

    def __init__(self, seconds: float, group: int) -> None:
        self.too_long = False
        self._seconds = seconds
        self._group = group
        self._timer = self._started()

    def broken(self) -> None:
        self._timer.cancel()
        self._timer = self._started()

    def end(self) -> None:
        self._timer.cancel()

    def _started(self) -> threading.Timer:
        timer = threading.Timer(self._seconds, self._kill)
        timer.daemon = True
        timer.start()
        return timer

    def _kill(self) -> None:
        self.too_long = True
        os.killpg(self._group, signal.SIGKILL)


def train_apart(job: Job, on_step: Callable[[int, int], None]) -> None:
    """Train in processes of their own, as many as ``execution.train_processes`` says.

    They leave in ``job.output`` the LoRA in two formats, ``training.json`` (a ``StepLog`` a step, without seconds) and
    the record. Log lines go to the logger ``flows.training``. ``on_step(done, steps)`` is called after every step. An
    interrupted training goes on from its checkpoint. Raises :class:`TrainingError` when the training ends too early.
    """
    job.output.mkdir(parents=True)
    launcher_log = job.output.parent / "launcher.log"
    heard = _Heard()
    with (
        launcher_log.open("wb") as launcher,
        subprocess.Popen(
            _command(job),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=launcher,
            encoding="utf-8",
            errors="replace",
            env=_environment(job.config.execution.train_processes),
            # Only the flow gets an interrupt from the keyboard. The pipe ends the training.
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        silence = _Silence(60 * job.config.execution.item_minutes, process.pid)
        for line in process.stdout:
            silence.broken()
            _hear(line.rstrip(), heard, on_step)
        silence.end()
    if silence.too_long:
        minutes = job.config.execution.item_minutes
        raise TrainingError(f"the training said nothing for {minutes:g} minutes (execution.item_minutes) and was ended")
    if process.returncode:
        launcher_said = launcher_log.read_text(errors="replace")
        log.info("%s", launcher_said)
        raise TrainingError(_last_words(heard, process.returncode, launcher_said))


def _command(job: Job) -> list[str]:
    """Return the command. Its launch file sets everything, so that the user's accelerate settings don't enter."""
    count = job.config.execution.train_processes
    launch = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU" if count > 1 else "NO",
        "num_processes": count,
        "num_machines": 1,
        "mixed_precision": "no",
        "main_process_port": 0,
        "use_cpu": False,
        "debug": False,
    }
    launch_file, job_file = (job.output.parent / name for name in ("launch.json", "job.json"))
    launch_file.write_text(json.dumps(launch))
    job_file.write_text(job.model_dump_json())
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(launch_file)]
    return [*accelerate, "--module", "flows.training.process", str(job_file)]


def _environment(count: int) -> dict[str, str]:
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    return {
        "OMP_NUM_THREADS": threads,
        **os.environ,
        # The training can import all that this process can.
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONUNBUFFERED": "1",
    }


def _hear(line: str, heard: _Heard, on_step: Callable[[int, int], None]) -> None:
    match _message(line):
        case {"step": step, "steps": steps}:
            heard.step = step
            on_step(step, steps)
        case {"level": level, "text": text}:
            heard.last_line = text
            log.log(level, "%s", text)
        case {"error": error, "traceback": trace}:
            heard.error = heard.error or error
            log.info("%s", trace)
        case _ if line:
            heard.last_line = line
            log.warning("%s", line)


def _message(line: str) -> Any:
    try:
        return json.loads(line) if line.startswith("{") else None
    except json.JSONDecodeError:
        return None


def _last_words(heard: _Heard, returncode: int, launcher_said: str) -> str:
    after = f"after step {heard.step}" if heard.step else "before a step was done"
    code = _first_exit(returncode, launcher_said)
    # If one of several processes was killed, the errors come from the others that miss it.
    if heard.error and code > 0:
        return f"{heard.error} ({after})"
    ended = f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    line = heard.last_line or "".join(launcher_said.strip().splitlines()[-1:])
    return f"the training process {ended} {after}" + (f"; its last line was: {line[:200]}" if line else "")


def _first_exit(returncode: int, launcher_said: str) -> int:
    """Return the exit code of the process that ended first, negative for a signal. The launcher tells it only as text,
    in different words for one process (subprocess) and for several (torchrun)."""
    found = re.search(r"died with <Signals\.\w+: (\d+)>|exit(?:code: | status )(-?\d+)", launcher_said)
    if found is None:
        return returncode
    return -int(found[1]) if found[1] else int(found[2])
