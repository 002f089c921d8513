"""What is handed to a crew, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from flows.engine.components import Components
from flows.engine.stage import Item, Place, Stage
from ipa_core.config import RunConfig
from storage import ActionResult, Store

BATCH_LIMIT: Final = 64
"""Items of a batch at most: then a failure costs little, and the UI stays readable."""
DIED: Final = "the worker process died while computing this (crashed decoder, or out of memory)"


@dataclass(frozen=True)
class Outcome:
    """What became of one item. Exactly one of the three is set."""

    key: str
    result: ActionResult | None = None
    error: str | None = None
    lost: str | None = None
    """Digest of an input that is missing from the store or damaged."""


class WorkersLost(Exception):  # noqa: N818 - says what became of them
    """Whoever computed the batch died with it; the message says how. Results committed before are in the store."""


@dataclass(frozen=True)
class Batch:
    """Items that one process computes, one after the other."""

    label: str
    """`scores: batch 3 of 12`."""
    stage: Stage[Any]
    items: tuple[Item, ...]
    refresh: bool = False


class Listener(Protocol):
    """Hears how a batch goes, from any thread."""

    def done(self, outcome: Outcome) -> None: ...

    def part(self, key: str, share: float) -> None:
        """How far an item under way is, ``share`` in [0, 1]."""


class Work(Protocol):
    """Computes a batch, in this process or another."""

    def __call__(self, batch: Batch, listener: Listener) -> list[Outcome]: ...


class Silent:
    """A listener that does nothing."""

    def done(self, outcome: Outcome) -> None: ...

    def part(self, key: str, share: float) -> None: ...


class Crew(Protocol):
    """Computes batches. Several threads may call :meth:`run` at once; the run's own thread calls the rest."""

    def prepare(self, place: Place) -> None:
        """Called before batches of that place. Raises ``RunStopped`` where the crew can't compute them."""

    def slots(self, place: Place) -> int:
        """Batches that are computed at the same time."""

    def limit(self, place: Place) -> int | None:
        """Items of a batch at most; None where all go at once."""

    def run(self, batch: Batch, listener: Listener) -> list[Outcome]:
        """One outcome for each item, in any order; the listener hears each. Raises :class:`WorkersLost`."""

    def end_stage(self) -> None:
        """Let go of what the next stage has no use for."""

    def close(self) -> None: ...


MakeCrew = Callable[[Store, RunConfig, Components], Crew]
