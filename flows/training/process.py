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
from flows.engine.store import LogFolder
from flows.training.job import RECORD, Job
from flows.training.previews import drawn, file_of, folder_of
from flows.training.tracking import Trackers
from storage import Store

if TYPE_CHECKING:
    from ipa_core.alignment.log import StepLog
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
    from ipa_core.alignment.data import ShardSamples
    from ipa_core.alignment.log import TensorBoardLog
    from ipa_core.alignment.processes import launched
    from ipa_core.alignment.reference import ReferenceTable
    from ipa_core.alignment.trainer import train
    from ipa_core.video import encode_video

    config, execution = job.config, job.config.execution
    kind = device(execution).partition(":")[0]
    with launched(execution.train_processes, execution.train_strategy, kind) as processes:
        model = pkgutil.resolve_name(job.animation_model)(config.candidates.model, execution, None, False)
        samples = ShardSamples(job.shards)
        references = ReferenceTable.model_validate_json(job.references.read_bytes())
        store = Store(job.store)
        logs = LogFolder(store, f"tensorboard/{job.key}")
        tensorboard = TensorBoardLog(logs.path)
        trackers = Trackers(store, job.key, config)
        opened = False

        def on_step(entry: StepLog) -> None:
            nonlocal opened
            if not opened:
                trackers.open(resume=entry.step > 0)
                opened = True
            tensorboard(entry)
            trackers.log(entry.numbers(), entry.step)
            _say(step=entry.step + 1, steps=entry.steps)

        def preview(step: int) -> None:
            log.info("drawing %d previews after step %d", len(job.previews), step)
            for clip, video in drawn(model, job.previews, config.candidates):
                if processes.first:
                    data = encode_video(video, config.clips.fps)
                    path = job.output.parent / file_of(step, clip.clip_id)
                    path.write_bytes(data)
                    store.folder.write(f"{folder_of(job.key)}/{path.name}", data)
                    tensorboard.video(f"previews/{clip.clip_id}", video, step)
                    trackers.video(f"previews/{clip.clip_id}", path, step)

        failed = True
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
                preview=preview if job.previews else None,
            )
            failed = False
        finally:
            trackers.close(failed=failed)
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
    # Without the seconds, the same training gives the same bytes.
    history = [entry.model_dump(exclude={"seconds"}) for entry in trained.history]
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
