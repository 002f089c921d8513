"""The processes that make each pass of one model together, a GPU each (`execution.gpus_per_clip`). Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Seat:
    """A process's place in a group. Rank 0 leads: it computes the clip, the others help in its passes."""

    rank: int
    size: int
    meeting: Path
    """The file by which the processes of one group find each other."""
    patience: timedelta
    """Longest time that one process waits for another within a pass."""


class Helpers(Protocol):
    """The other processes, as their leader handles them."""

    @property
    def size(self) -> int:
        """Number of processes of the group, with the leader."""

    def begin(self) -> Seat:
        """Start them, and return the leader's seat once all have their model. Raises ``RuntimeError`` if one fails."""

    def tell(self, order: str) -> None:
        """Send a line to each. Raises ``OSError`` when one has ended."""

    def end(self) -> Exception | None:
        """End them. Return the reason when one had ended by itself: ``torch.OutOfMemoryError`` if its card was full."""
