"""The training in a process of its own, started by ``accelerate launch``: a crash of CUDA takes no flow down.

The flow's side is :func:`train_apart`; the training's is the rest, run as ``python -m flows.training.process JOB``. What the
training prints comes to the flow line by line: lines of JSON are messages, all others are shown as they are. It holds a
pipe to the flow's process and ends with it, however that ends.
"""

from __future__ import annotations

import json
import logging
import os
import pkgutil
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.engine.store import LogFolder
from ipa_core.config import Config, RunConfig
from storage import Store

if TYPE_CHECKING:
    from ipa_core.alignment import StepLog, TrainedLoRA

log = logging.getLogger("flows.training.process")
LORA: Final = "pytorch_lora_weights.safetensors"
RECORD: Final = "record.json"


class TrainingError(Exception):
    """The training ended before its last step; the message says how, after which step, and its last words."""


class Job(Config):
    """What the training process is told, as a file."""

    config: RunConfig
    key: str
    """Of the action: where its checkpoints and its TensorBoard log are kept."""
    store: str
    shards: tuple[Path, ...]
    references: Path
    """A ``ReferenceTable`` as JSON; empty where the method has no reference."""
    animation_model: str
    """``module:function``, see ``flows.engine.components.Components``."""
    output: Path
    """Where the record and the files of the result are left. The folder around it is for the launch."""


@dataclass
class _Heard:
    """What the training has said so far."""

    step: int = 0
    last_line: str = ""
    error: str | None = None


def train_apart(job: Job, on_step: Callable[[int, int], None]) -> None:
    """Train in processes of their own, as many as ``execution.train_processes`` says.

    They leave in ``job.output`` the LoRA in two formats, ``training.json`` (a ``StepLog`` a step) and the record.
    Log lines go to the logger ``flows.training.process``. ``on_step(done, steps)`` is called after every step. A training that
    was interrupted goes on from its checkpoint. Raises :class:`TrainingError`.
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
            # An interrupt from the keyboard is for the flow; the pipe tells the training.
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            _hear(line.rstrip(), heard, on_step)
    if process.returncode:
        launcher_said = launcher_log.read_text(errors="replace")
        log.info("%s", launcher_said)
        raise TrainingError(_last_words(heard, process.returncode, launcher_said))


def function_name(function: Callable[..., Any]) -> str:
    """``module:function``, by which another process finds it. Raises ``ValueError`` where none could."""
    name = f"{function.__module__}:{function.__qualname__}"
    if function.__module__ == "__main__" or "<" in name:
        raise ValueError(f"{name} can't be found by the training process: make it a function of an importable module")
    return name


def _command(job: Job) -> list[str]:
    """A launch file says everything, so that nobody's own settings of accelerate enter."""
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
        # What this process can import, it can.
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
    # Where one of several was killed, the errors are those of the others that miss it.
    if heard.error and code > 0:
        return f"{heard.error} ({after})"
    ended = f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    line = heard.last_line or "".join(launcher_said.strip().splitlines()[-1:])
    return f"the training process {ended} {after}" + (f"; its last line was: {line[:200]}" if line else "")


def _first_exit(returncode: int, launcher_said: str) -> int:
    """Of the process that ended first, negative for a signal. The launcher tells it to people only, for one process
    (subprocess) and for several (torchrun) in different words."""
    found = re.search(r"died with <Signals\.\w+: (\d+)>|exit(?:code: | status )(-?\d+)", launcher_said)
    if found is None:
        return returncode
    return -int(found[1]) if found[1] else int(found[2])


# Everything below runs in the training process.


def _main(job_file: str) -> None:
    threading.Thread(target=_end_with_flow, daemon=True).start()
    # What is written on stderr from here on is the training's, not the launcher's.
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
    first = os.environ.get("RANK", "0") == "0"
    level = logging.INFO if first else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", handlers=[_Lines()])
    logging.captureWarnings(True)
    try:
        _train(Job.model_validate_json(Path(job_file).read_bytes()))
    except Exception as error:  # noqa: BLE001 - told to the flow
        sentence = f"{type(error).__name__}: {' '.join(str(error).split())}"
        _say(error=sentence, traceback=traceback.format_exc())
        raise SystemExit(1) from None


def _train(job: Job) -> None:
    from flows.engine.components import device
    from ipa_core.alignment import ReferenceTable, ShardSamples, TensorBoardLog, launched, train

    config, execution = job.config, job.config.execution
    kind = device(execution).partition(":")[0]
    with launched(execution.train_processes, execution.train_strategy, kind) as processes:
        model = pkgutil.resolve_name(job.animation_model)(config.candidates.model, execution, None, False)
        samples = ShardSamples(job.shards)
        references = ReferenceTable.model_validate_json(job.references.read_bytes())
        store = Store(job.store)
        logs = LogFolder(store, f"tensorboard/{job.key}")
        tensorboard = TensorBoardLog(logs.path)

        def on_step(entry: StepLog) -> None:
            tensorboard(entry)
            _say(step=entry.step + 1, steps=entry.steps)

        try:
            slot = Slot(store, job.key)
            trained = train(
                model,
                samples,
                config.alignment,
                checkpoints=slot,
                on_step=on_step,
                processes=processes,
                references=references,
            )
        finally:
            tensorboard.close()
            logs.close()
        if processes.first:
            _write(job.output, trained, len(samples))


@dataclass(frozen=True)
class Slot:
    """The checkpoints of one action."""

    store: Store
    key: str

    def load(self) -> bytes | None:
        found = self.store.checkpoints.load(self.key)
        if found is not None:
            log.info("going on from the checkpoint of step %d", found[0])
        return None if found is None else found[1]

    def save(self, step: int, data: bytes) -> None:
        self.store.checkpoints.save(self.key, step, data)


def _write(output: Path, trained: TrainedLoRA, samples: int) -> None:
    # Without the seconds: the same training gives the same bytes.
    history = [entry.model_dump(exclude={"seconds"}) for entry in trained.history]
    record = {"steps": len(history), "samples": samples, "loss": trained.history[-1].loss}
    (output / LORA).write_bytes(trained.weights)
    (output / "comfyui_lora.safetensors").write_bytes(trained.comfyui)
    (output / "training.json").write_text(json.dumps(history))
    (output / RECORD).write_text(json.dumps(record))


class _Lines(logging.Handler):
    """Each record as one message."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(level=record.levelno, text=self.format(record))


def _say(**message: Any) -> None:
    # In one write, so that the lines of several processes don't mix.
    print(json.dumps(message) + "\n", end="", flush=True)


def _end_with_flow() -> None:
    # Not through sys.stdin, whose lock would be held when the process ends by itself.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    _main(sys.argv[1])
