"""The batches that a crew gets, and the outcomes that it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, Protocol

from flows.engine.components import Components
from flows.engine.stage import Item, Place, Stage
from ipa_core.config import RunConfig
from storage import ActionResult, Store

BATCH_LIMIT: Final = 64
"""Largest number of items in a batch: a failure then costs little, and the UI stays readable."""
DIED: Final = "the worker process died while computing this (crashed decoder, or out of memory)"


@dataclass(frozen=True)
class Outcome:
    """Result of one item. Exactly one of ``result``, ``error`` and ``lost`` is set, unless it is under way
    ``elsewhere``."""

    key: str
    result: ActionResult | None = None
    error: str | None = None
    lost: str | None = None
    """Digest of an input that is missing from the store or damaged."""
    elsewhere: bool = False
    """Another run computes the item, or has computed it since this run looked it up."""

    @property
    def under_way(self) -> bool:
        """Whether another run has not come to an end with the item yet."""
        return self.elsewhere and self.result is None


class Loss(Enum):
    """How a batch lost its processes: it decides which item is to blame."""

    UNBEGUN = auto()
    """Killed before it began an item: no item is to blame."""
    KILLED = auto()
    """Killed by a signal while it computed an item: that item may be to blame, or somebody outside."""
    FAILED = auto()
    """It ended in another way, or nobody knows how."""
    HUNG = auto()
    """Ended because an item showed no progress: that item is to blame."""


class WorkersLost(Exception):  # noqa: N818 - the message says how they died
    """The processes that computed the batch died; the message says how. Results committed before are in the store."""

    def __init__(self, message: str, loss: Loss = Loss.FAILED) -> None:
        super().__init__(message)
        self.loss = loss


@dataclass(frozen=True)
class Batch:
    """Items that one process computes, one after the other."""

    label: str
    """For example `scores: batch 3 of 12`."""
    stage: Stage[Any]
    items: tuple[Item, ...]
    refresh: bool = False


class Listener(Protocol):
    """Gets the progress of a batch, from any thread."""

    def done(self, outcome: Outcome) -> None: ...

    def part(self, key: str, share: float) -> None:
        """Take the progress of an item under way, ``share`` in [0, 1]. It is 0 when the item begins."""


class Work(Protocol):
    """Computes a batch, in this process or another."""

    def __call__(self, batch: Batch, listener: Listener) -> list[Outcome]: ...


class Silent:
    """A listener that does nothing."""

    def done(self, outcome: Outcome) -> None: ...

    def part(self, key: str, share: float) -> None: ...


class Crew(Protocol):
    """Computes batches. Several threads may call :meth:`run` at once; only the run's own thread calls the rest."""

    def prepare(self, place: Place) -> None:
        """Get ready for batches of that place. Raises ``RunStopped`` when the crew can't compute them."""

    def slots(self, place: Place) -> int:
        """Return the number of batches that are computed at the same time."""

    def limit(self, place: Place) -> int | None:
        """Return the largest number of items in a batch; None if all go at once."""

    def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
        """Return one outcome for each item, in any order; tell each to the listener. Raises :class:`WorkersLost`."""

    def end_stage(self) -> None:
        """Release what the next stage does not use."""

    def close(self) -> None: ...


MakeCrew = Callable[[Store, RunConfig, Components], Crew]
