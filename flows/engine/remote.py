"""What a worker process of `processes`, Dask or Ray does with a batch. Its workbench stays from one batch to the next,
and so do the loaded models."""

from __future__ import annotations

import atexit
from dataclasses import dataclass

from flows.engine.components import Components
from flows.engine.work import Batch, compute
from flows.engine.workbench import Outcome, Workbench
from ipa_core.config import RunConfig
from storage import Store

_kept: tuple[RemoteWork, Workbench] | None = None
"""Of this process: one at a time, two models may not fit on a GPU."""


@dataclass(frozen=True)
class RemoteWork:
    """Computes batches in whatever process it was sent to."""

    address: str
    config: RunConfig
    components: Components

    def __call__(self, batch: Batch) -> list[Outcome]:
        try:
            bench = self._bench()
        except Exception as error:  # noqa: BLE001 - told by every item
            sentence = f"a worker could not start: {type(error).__name__}: {error}"
            return [Outcome(item.action.key, error=sentence) for item in batch.items]
        return compute(batch, bench)

    def _bench(self) -> Workbench:
        global _kept
        if _kept is None or _kept[0] != self:
            import cv2

            # The other cores belong to the other workers.
            cv2.setNumThreads(1)
            _close()
            _kept = (self, Workbench(Store(self.address), self.config, self.components))
            atexit.unregister(_close)
            atexit.register(_close)
        return _kept[1]


def _close() -> None:
    global _kept
    if _kept is not None:
        _kept[1].close()
    _kept = None
