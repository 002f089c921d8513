"""The helper processes of one that computes a clip (`execution.gpus_per_clip`): started here, and their own main.

A helper reads orders from its standard input and ends with it, so it never outlives its leader. It claims a free GPU as
every process does, loads the model without text encoder, and tells on its standard output that it is ready, or why it
ends.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from flows.engine.devices import visible_devices
from ipa_core.config import ConfigError, Execution, ModelConfig
from ipa_core.models.group import Seat
from ipa_core.scratch import scratch_folder

_PATIENCE: Final = 30.0
"""Seconds that a helper may take to end, and that a leader may take to notice a helper's death."""
_FAILED: Final = 70
"""Exit code of a leader that waits for a dead helper."""
_running: Any = None
"""Ends the helpers of this process, which has one group at a time."""


def check_spread(folder: Path, execution: Execution) -> None:
    """Raises ``ConfigError`` when the model of this folder, or this machine, can't do ``execution.gpus_per_clip``."""
    count = execution.gpus_per_clip
    if count == 1:
        return
    from ipa_core.models import kind_of

    kind = kind_of(folder)
    heads = kind.heads(folder)
    if heads is None:
        raise ConfigError(f"execution.gpus_per_clip: {kind.pipeline} computes a clip on one GPU alone; set it to 1")
    if heads % count:
        fitting = ", ".join(str(number) for number in range(2, heads + 1) if heads % number == 0)
        raise ConfigError(
            f"execution.gpus_per_clip: the model's {heads} attention heads can't be shared equally by {count} GPUs; "
            f"take one of {fitting}"
        )
    seen = 0 if execution.device == "cpu" else len(visible_devices())
    if 0 < seen < count:
        raise ConfigError(
            f"execution.gpus_per_clip is {count}, but this process sees {seen} GPUs; lower it, or check `nvidia-smi` "
            "and CUDA_VISIBLE_DEVICES"
        )


class _Job(BaseModel):
    """What a helper is told when it starts."""

    model: ModelConfig
    execution: Execution
    lora: Path | None
    meeting: Path

    def seat(self, rank: int) -> Seat:
        minutes = timedelta(minutes=self.execution.item_minutes)
        return Seat(rank, self.execution.gpus_per_clip, self.meeting, minutes)


class HelperError(RuntimeError):
    """A helper was killed."""


class HelperProcesses:
    """The :class:`~ipa_core.models.group.Helpers` of this process. They end with this object, too."""

    def __init__(self, model: ModelConfig, execution: Execution, lora: bytes | None) -> None:
        self.size = execution.gpus_per_clip
        self._model, self._execution, self._lora = model, execution, lora
        self._scratch = ExitStack()
        self._processes: list[subprocess.Popen[str]] = []
        self._ended = threading.Event()
        self._end: Any = None

    def begin(self) -> Seat:
        global _running
        if _running is not None:  # Those of a model before, whose memory is not free yet.
            _running()
        folder = self._scratch.enter_context(scratch_folder())
        lora = None if self._lora is None else folder / "lora.safetensors"
        if lora is not None and self._lora is not None:
            lora.write_bytes(self._lora)
        job = _Job(model=self._model, execution=self._execution, lora=lora, meeting=folder / "meeting")
        (folder / "job.json").write_text(job.model_dump_json())
        self._processes = [_started(folder / "job.json", rank) for rank in range(1, self.size)]
        self._ended = threading.Event()
        self._end = _running = weakref.finalize(self, _end, self._processes, self._scratch, self._ended)
        for process in self._processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if json.loads(line or "{}") != {"ready": True}:
                reason = self.end()
                found = json.loads(line)["error"] if line else reason or "it ended while it loaded the model"
                raise RuntimeError(f"execution.gpus_per_clip: a helper process can't start: {found}")
            threading.Thread(target=_watch, args=(process, self._ended), daemon=True).start()
        return job.seat(0)

    def tell(self, order: str) -> None:
        for process in self._processes:
            assert process.stdin is not None
            print(order, file=process.stdin, flush=True)

    def end(self) -> Exception | None:
        return None if self._end is None else self._end()


def _started(job: Path, rank: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.engine.helper_processes", str(job), str(rank)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # It can import all that this process can.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        start_new_session=True,  # An interrupt from the keyboard is for the run, which ends it.
    )


def _watch(process: subprocess.Popen[str], ended: threading.Event) -> None:
    """End this process when it does not notice a helper's death: on a GPU it would wait for it for ever."""
    process.wait()
    if not ended.wait(_PATIENCE):
        print("a helper process (execution.gpus_per_clip) ended, and its leader waited for it", file=sys.stderr)
        os._exit(_FAILED)


def _end(processes: list[subprocess.Popen[str]], scratch: ExitStack, ended: threading.Event) -> Exception | None:
    """End the processes. Return why one had ended before."""
    ended.set()
    for process in processes:
        assert process.stdin is not None
        with suppress(OSError):  # It is dead.
            process.stdin.close()
    reasons = [reason for process in processes if (reason := _reason(process)) is not None]
    scratch.close()
    if not reasons:
        return None
    import torch

    # One that died makes the others fail.
    return min(reasons, key=lambda reason: not isinstance(reason, HelperError | torch.OutOfMemoryError))


def _reason(process: subprocess.Popen[str]) -> Exception | None:
    try:
        code = process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = 0
    assert process.stdout is not None
    with process.stdout as said:
        messages = [json.loads(line) for line in said]
    if code < 0:
        return HelperError(
            f"a helper process (execution.gpus_per_clip) was killed by signal {-code}; was the main memory enough?"
        )
    for message in messages:
        if "error" in message:
            return _error(message)
    return None


def _error(message: dict[str, Any]) -> Exception:
    import torch

    text = f"a helper process (execution.gpus_per_clip) failed: {message['error']}"
    return torch.OutOfMemoryError(text) if message["memory"] else RuntimeError(text)


def main(job_file: str, rank: str) -> None:
    """Help until the standard input ends. Then this process ends at once, whatever it does."""
    leader = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What a library prints is no message.
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(orders,), daemon=True).start()
    try:
        _help(_Job.model_validate_json(Path(job_file).read_text()), int(rank), orders, leader)
    except Exception as error:  # noqa: BLE001 - the leader tells it
        import torch

        full = isinstance(error, torch.OutOfMemoryError)
        print(json.dumps({"error": " ".join(str(error).split())[:500], "memory": full}), file=leader, flush=True)
    os._exit(1)


def _help(job: _Job, rank: int, orders: queue.SimpleQueue[str], leader: Any) -> None:
    from flows.engine.components import loaded_model

    lora = None if job.lora is None else job.lora.read_bytes()
    model = loaded_model(job.model, job.execution, lora, text_encoder=False, quantization=job.model.quantization)
    print(json.dumps({"ready": True}), file=leader, flush=True)
    model.help(job.seat(rank), _all(orders))


def _read(orders: queue.SimpleQueue[str]) -> None:
    with os.fdopen(os.dup(0)) as lines:  # Not through sys.stdin: this thread would hold its lock at the end.
        for line in lines:
            orders.put(line)
    os._exit(1)


def _all(orders: queue.SimpleQueue[str]) -> Iterator[str]:
    while True:
        yield orders.get()


if __name__ == "__main__":
    main(*sys.argv[1:])
