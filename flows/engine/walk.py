"""Walk over a stage: look up its waves of items in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from flows.engine.stage import Drop, Item, ItemResult, RunStopped, Stage
from flows.engine.view import View
from storage import ActionResult
from storage.errors import NEWER

Stages = Sequence[Stage[Any]]


def looked_up(view: View, stage: Stage[Any]) -> Iterator[tuple[list[Item], dict[str, ActionResult]]]:
    """Yield, wave by wave, the items of a stage and the results that the store has, by key.

    The caller adds the results of a wave to the view before it asks for the next. A run computes a missing item, a plan
    predicts it, and :func:`nothing_to_compute` stops at the first.
    """
    view.add(stage.name, ())
    for wave in stage.waves():
        found = list(wave(view))
        items = [one for one in found if isinstance(one, Item)]
        view.dropped += [one for one in found if isinstance(one, Drop)]
        yield items, view.store.actions.lookup(stage.name, [item.action.key for item in items])


@dataclass(frozen=True)
class Scope:
    """The stages that a run looks at. Stages before ``first`` must be complete in the store."""

    first: str | None = None
    last: str | None = None
    refresh: frozenset[str] = frozenset()

    def walked(self, stages: Stages) -> list[Stage[Any]]:
        """Return all stages up to ``last``. Raises ``RunStopped`` when a name is unknown or the order is wrong."""
        names = [stage.name for stage in stages]
        for name in (self.first, self.last, *sorted(self.refresh)):
            if name is not None and name not in names:
                raise RunStopped(f"there is no stage '{name}'; the stages are {', '.join(names)}")
        last = len(names) - 1 if self.last is None else names.index(self.last)
        if self.first is not None and names.index(self.first) > last:
            raise RunStopped(f"--from {self.first} comes after --to {self.last}")
        return list(stages[: last + 1])

    def only_looked_up(self, stages: Stages) -> set[str]:
        names = [stage.name for stage in stages]
        return set() if self.first is None else set(names[: names.index(self.first)])


def nothing_to_compute(view: View, stages: Stages, scope: Scope) -> bool:
    """Return whether a run finds everything in the store, or stops before it computes anything."""
    for stage in scope.walked(stages):
        for items, known in looked_up(view, stage):
            if items and (stage.name in scope.refresh or any(item.action.key not in known for item in items)):
                return False
            view.add(stage.name, [ItemResult(item, "cached", known[item.action.key]) for item in items])
        if stage.nothing_left(view):
            return True
    return True


@contextmanager
def readable_records() -> Iterator[None]:
    """Raise ``RunStopped`` for a record with fields that this version does not know: a newer one wrote it, under the
    same key."""
    try:
        yield
    except ValidationError as error:
        unknown = [one for one in error.errors() if one["type"] == "extra_forbidden"]
        if not unknown:
            raise
        name = ".".join([error.title, *map(str, unknown[0]["loc"])])
        raise RunStopped(f"this version can't read a record of the store, it does not know {name}; {NEWER}") from None
