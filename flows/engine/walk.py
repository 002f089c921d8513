"""One walk over a stage: its waves of items, looked up in the store. A policy says what becomes of the missing ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flows.engine.stage import Drop, Item, ItemResult, RunStopped, Stage
from flows.engine.view import View
from storage import ActionResult

Stages = Sequence[Stage[Any]]


class Policy(Protocol):
    """A run computes the missing items, a plan predicts them, and `nothing_to_compute` stops at the first."""

    def resolve(
        self, stage: Stage[Any], items: Sequence[Item], known: Mapping[str, ActionResult]
    ) -> Sequence[ItemResult]:
        """The result of each item, in their order; ``known`` are those in the store, by key."""


def walk_stage(view: View, stage: Stage[Any], policy: Policy) -> None:
    """Put the results of a stage into the view, wave by wave."""
    view.add(stage.name, ())
    for wave in stage.waves():
        found = list(wave(view))
        items = [one for one in found if isinstance(one, Item)]
        view.dropped += [one for one in found if isinstance(one, Drop)]
        known = view.store.actions.lookup(stage.name, [item.action.key for item in items])
        view.add(stage.name, policy.resolve(stage, items, known))


@dataclass(frozen=True)
class Scope:
    """The stages that a run looks at. Stages before ``first`` must be complete in the store."""

    first: str | None = None
    last: str | None = None
    refresh: frozenset[str] = frozenset()

    def walked(self, stages: Stages) -> list[Stage[Any]]:
        """All up to the last. Raises ``RunStopped`` where a name is none of theirs or the order is wrong."""
        names = [stage.name for stage in stages]
        for name in (self.first, self.last, *sorted(self.refresh)):
            if name is not None and name not in names:
                raise RunStopped(f"there is no stage '{name}'; the stages are {', '.join(names)}")
        last = len(names) - 1 if self.last is None else names.index(self.last)
        if self.first is not None and names.index(self.first) > last:
            raise RunStopped(f"--from {self.first} comes after --to {self.last}")
        return list(stages[: last + 1])

    def only_looked_up(self, stages: Stages) -> set[str]:
        """Names of the stages before the first."""
        names = [stage.name for stage in stages]
        return set() if self.first is None else set(names[: names.index(self.first)])


class _ToBeComputed(Exception):  # noqa: N818 - an answer
    pass


class _Stop:
    """Ends the walk at the first item that is not in the store."""

    def __init__(self, refresh: frozenset[str]) -> None:
        self._refresh = refresh

    def resolve(
        self, stage: Stage[Any], items: Sequence[Item], known: Mapping[str, ActionResult]
    ) -> Sequence[ItemResult]:
        if items and (stage.name in self._refresh or any(item.action.key not in known for item in items)):
            raise _ToBeComputed
        return [ItemResult(item, "cached", known[item.action.key]) for item in items]


def nothing_to_compute(view: View, stages: Stages, scope: Scope) -> bool:
    """Whether a run finds everything in the store, or stops before it computes anything."""
    policy = _Stop(scope.refresh)
    try:
        for stage in scope.walked(stages):
            walk_stage(view, stage, policy)
            if stage.nothing_left(view):
                return True
    except _ToBeComputed:
        return False
    return True
