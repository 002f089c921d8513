"""The numbers that a training step reports, and a listener that writes them for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ipa_core.records import Record

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class StepLog(Record):
    """One optimizer step. Errors, and the numbers that follow from errors, are means over the batch.

    ``method: sft`` computes no reference error: e_ref and the numbers that need it are None. Only IPA has a weight.
    """

    step: int
    """Optimizer steps taken before this one; the values belong to the model before the step."""
    steps: int
    """Optimizer steps of the whole run."""
    loss: float
    model_error: float
    """e_theta."""
    reference_error: float | None
    """e_ref."""
    gap: float | None
    """e_ref - e_theta."""
    logit: float | None
    """x = beta/2 * w(t) * gap, w(t) = (1 - t)^2 by default."""
    weight: float | None
    """beta/2 * w(t) * sigmoid(-x), the factor of e_theta's gradient."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    learning_rate: float
    seconds: float
    drift: float | None = None
    """Distance to the frozen model's velocity, as a share of that velocity's length; ``None``: it was not computed."""

    def numbers(self) -> dict[str, float]:
        """Return the curves' values by their names."""
        found = self.model_dump(exclude={"step", "steps"}, exclude_none=True)
        return {f"alignment/{name}": value for name, value in found.items()}


class TensorBoardLog:
    """An ``on_step`` listener that writes every number of a :class:`StepLog` under ``folder``.

    A continued run replaces the steps that the killed run had logged after its last checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def __call__(self, log: StepLog) -> None:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=log.step)
        for name, value in log.numbers().items():
            self._writer.add_scalar(name, value, log.step)

    def video(self, name: str, video: np.ndarray, step: int) -> None:
        """Show up to eight frames of a video uint8 ``[T, H, W, 3]`` side by side. A step must have been logged."""
        assert self._writer is not None
        frames = video[np.linspace(0, len(video) - 1, min(8, len(video))).round().astype(int)]
        self._writer.add_image(name, np.concatenate(list(frames), axis=1), step, dataformats="HWC")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
