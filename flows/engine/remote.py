"""Compute batches in a process of this machine or of a cluster. The worker and its models stay between batches."""

from __future__ import annotations

import atexit
import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from flows.engine.components import Components
from flows.engine.work import Batch, Listener, Outcome, Silent
from flows.engine.worker import Worker
from ipa_core.config import RunConfig
from storage import Store

_STDERR: Final = 2
"""A number, because a cluster may have replaced Python's own stream."""
_kept: tuple[RemoteWork, Worker] | None = None
"""Work and worker of this process. Only one is kept, because two models may not fit on a GPU."""


@dataclass(frozen=True)
class RemoteWork:
    """Computes batches in the process that receives it."""

    address: str
    config: RunConfig
    components: Components

    def __call__(self, batch: Batch, listener: Listener | None = None) -> list[Outcome]:
        listener = listener or Silent()
        try:
            worker = self._worker()
        except Exception as error:  # noqa: BLE001 - every item reports it
            sentence = f"a worker could not start: {type(error).__name__}: {error}"
            outcomes = [Outcome(item.action.key, error=sentence) for item in batch.items]
            for outcome in outcomes:
                listener.done(outcome)
            return outcomes
        with _watched(60 * self.config.execution.item_minutes, listener) as watched:
            return worker.run(batch, watched)

    def _worker(self) -> Worker:
        global _kept
        if _kept is None or _kept[0] != self:
            import cv2

            # The other cores belong to the other workers.
            cv2.setNumThreads(1)
            close()
            _kept = (
                self,
                Worker(Store(self.address, cache_gb=self.config.execution.cache_gb), self.config, self.components),
            )
            atexit.unregister(close)
            atexit.register(close)
        return _kept[1]


@contextmanager
def _watched(seconds: float, listener: Listener) -> Iterator[Listener]:
    """End this process when the listener hears nothing for ``seconds`` within the block. The watch needs no Python,
    because an item may hang in a library that never gives the interpreter back."""
    watch = _Watch(seconds, listener)
    watch.start()
    try:
        yield watch
    finally:
        faulthandler.cancel_dump_traceback_later()


@dataclass(frozen=True)
class _Watch:
    seconds: float
    listener: Listener

    def start(self) -> None:
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=_STDERR)

    def done(self, outcome: Outcome) -> None:
        self.start()
        self.listener.done(outcome)

    def part(self, key: str, share: float) -> None:
        self.start()
        self.listener.part(key, share)


def close() -> None:
    global _kept
    if _kept is not None:
        _kept[1].close()
    _kept = None
