"""What people see of a training: its steps, curves and previews, in TensorBoard and in trackers."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from flows.engine.store import LogFolder
from flows.training.job import Job
from flows.training.previews import drawn, file_of, folder_of
from flows.training.tracking import Trackers
from ipa_core.alignment.log import StepLog, TensorBoardLog
from ipa_core.alignment.processes import Processes
from ipa_core.models.animation import AnimationModel
from ipa_core.video import encode_video
from storage import Store

log = logging.getLogger("flows.training")


class Shown:
    """Each process of a training has one; only the first writes."""

    def __init__(
        self, job: Job, store: Store, model: AnimationModel, processes: Processes, tell: Callable[[int, int], None]
    ) -> None:
        self._job = job
        self._store = store
        self._model = model
        self._processes = processes
        self._tell = tell
        self._logs = LogFolder(store, f"tensorboard/{job.key}")
        self._tensorboard = TensorBoardLog(self._logs.path)
        self._trackers = Trackers(store, job.key, job.config)
        self._opened = False
        self._previews = job.previews

    def step(self, entry: StepLog) -> None:
        if not self._opened:
            self._trackers.open(resume=entry.step > 0)
            self._opened = True
        self._tensorboard(entry)
        self._trackers.log(entry.numbers(), entry.step)
        self._tell(entry.step + 1, entry.steps)

    def preview(self, step: int) -> None:
        """Draw the previews after so many steps; every process must call this."""
        if not self._previews:
            return
        log.info("drawing %d previews after step %d", len(self._previews), step)
        try:
            self._draw(step)
        except torch.OutOfMemoryError as error:
            if self._processes.count > 1:
                raise  # The others wait for this one.
            log.warning("no more previews, because they need more memory than the training leaves: %s", error)
            self._previews = ()
            torch.cuda.empty_cache()

    def _draw(self, step: int) -> None:
        config = self._job.config
        for clip, video in drawn(self._model, self._previews, config.evaluated):
            if self._processes.first:
                data = encode_video(video, config.clips.fps)
                path = self._job.output.parent / file_of(step, clip.clip_id)
                path.write_bytes(data)
                self._store.folder.write(f"{folder_of(self._job.key)}/{path.name}", data)
                self._tensorboard.video(f"previews/{clip.clip_id}", video, step)
                self._trackers.video(f"previews/{clip.clip_id}", path, step)

    def close(self, *, failed: bool) -> None:
        self._trackers.close(failed=failed)
        self._tensorboard.close()
        self._logs.close()
