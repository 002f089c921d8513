"""The results that a run has so far, and the tables that stages join from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from flows.engine.stage import Drop, Item, ItemResult, Kept, Stage
from ipa_core.config import RunConfig
from storage import ActionResult, Store

if TYPE_CHECKING:
    from flows.engine.inputs import RunInputs

Table = TypeVar("Table")


class Results(dict[str, list[ItemResult]]):
    """Item results by the stage's name, in the order of the items."""

    def done(self, stage: str) -> list[tuple[Item, ActionResult]]:
        """Return the items with a done result; none if the stage has not run."""
        return [(entry.item, entry.done) for entry in self.get(stage, ()) if entry.done is not None]


class View:
    """Config, inputs and results of a run. Stages read it; only the engine writes into it."""

    def __init__(self, config: RunConfig, inputs: RunInputs) -> None:
        self.config = config
        self.inputs = inputs
        self.results = Results()
        self.dropped: list[Drop] = []
        """Inputs that became no item."""
        self._tables: dict[Callable[..., Any], Any] = {}

    @property
    def store(self) -> Store:
        return self.inputs.store

    def done(self, stage: type[Stage[Any]]) -> list[tuple[Item, ActionResult]]:
        """Return the items of a stage with a done result; none if it has not run."""
        return self.results.done(stage.name)

    def one(self, stage: type[Stage[Any]]) -> tuple[Item, ActionResult] | None:
        """Return the result of a stage with one item; None while there is none."""
        return next(iter(self.done(stage)), None)

    def records(self, stage: type[Stage[Kept]]) -> list[Kept]:
        return [stage.record.model_validate(result.record) for _, result in self.done(stage)]  # type: ignore[misc]

    def add(self, stage: str, entries: Iterable[ItemResult]) -> None:
        self.results.setdefault(stage, []).extend(entries)
        self._tables.clear()

    def replace(self, stage: str, changed: ItemResult) -> None:
        """Replace the result of the same action."""
        key = changed.item.action.key
        self.results[stage] = [
            changed if entry.item.action.key == key else entry for entry in self.results.get(stage, [])
        ]
        self._tables.clear()

    def clear(self) -> None:
        self.results.clear()
        self.dropped.clear()
        self._tables.clear()


def joined(make: Callable[[View], Table]) -> Callable[[View], Table]:
    """Keep the table that a function joins from a view, until a result is added or replaced."""

    @wraps(make)
    def table(run: View) -> Table:
        if make not in run._tables:
            run._tables[make] = make(run)
        found: Table = run._tables[make]
        return found

    return table
