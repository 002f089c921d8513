"""The training's side, run as ``python -m flows.training.process JOB``. It holds a pipe to the flow's process and ends
when that process ends, in whatever way."""

from __future__ import annotations

import json
import logging
import os
import pkgutil
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.engine.parent import end_with_pipe
from flows.training.job import RECORD, Job
from storage import Store

if TYPE_CHECKING:
    from ipa_core.alignment.trainer import TrainedLoRA

log = logging.getLogger("flows.training")


def _main(job_file: str) -> None:
    end_with_pipe(0)
    # From here on, stderr belongs to the training, not to the launcher.
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
    from flows.training.shown import Shown
    from ipa_core.alignment.data import ShardSamples
    from ipa_core.alignment.processes import launched
    from ipa_core.alignment.reference import ReferenceTable
    from ipa_core.alignment.trainer import train

    config, execution = job.config, job.config.execution
    kind = device(execution).partition(":")[0]
    with launched(execution.train_processes, execution.train_strategy, kind) as processes:
        model = pkgutil.resolve_name(job.animation_model)(config.candidates.model, execution, None, False)
        samples = ShardSamples(job.shards)
        references = ReferenceTable.model_validate_json(job.references.read_bytes())
        store = Store(job.store)
        shown = Shown(job, store, model, processes, lambda step, steps: _say(step=step, steps=steps))
        trained = None
        try:
            trained = train(
                model,
                samples,
                config.alignment,
                checkpoints=Slot(store, job.key),
                on_step=shown.step,
                processes=processes,
                references=references,
                preview=shown.preview,
                sampling=config.candidates,
            )
        finally:
            shown.close(failed=trained is None)
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
    # Without the seconds, the same training gives the same bytes.
    history = [entry.model_dump(exclude={"seconds"}) for entry in trained.history]
    for entry in history:
        if entry["drift"] is None:
            del entry["drift"]  # As it was before there was one.
    record = {"steps": len(history), "samples": samples, "loss": trained.history[-1].loss}
    for name, data in trained.files.items():
        (output / name).write_bytes(data)
    (output / "training.json").write_text(json.dumps(history))
    (output / RECORD).write_text(json.dumps(record))


class _Lines(logging.Handler):
    """Prints each record as one message."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(level=record.levelno, text=self.format(record))


def _say(**message: Any) -> None:
    # One write keeps the lines of several processes apart.
    print(json.dumps(message) + "\n", end="", flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
