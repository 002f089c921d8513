"""The registry as rows, for `ipa models` and the site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ipa_core.records import Ruling
from storage.registry import Decided, State


@dataclass(frozen=True)
class ModelRow:
    """One adapter with the last event about it."""

    adapter: str
    role: str
    run: str
    registered: str
    """UTC, ISO 8601."""
    decided: Decided | None
    """The last promotion, refusal or rollback, by the rule or by a person."""
    ruling: Ruling | None
    """The last ruling; an event by a person has none of its own."""
    generator: str | None
    model: str
    second_judge: float | None
    """The second judge's mean on the adapter's held-out clips; no decision reads it. None: nobody judged."""


def model_rows(state: State) -> list[ModelRow]:
    """Return the newest first."""
    last: Mapping[str, Decided] = {event.adapter: event for event in state.decisions}
    rulings = {event.adapter: event.ruling for event in state.decisions if event.ruling is not None}
    return [
        ModelRow(
            adapter=adapter,
            role=state.role(adapter),
            run=entry.run,
            registered=entry.at,
            decided=last.get(adapter),
            ruling=rulings.get(adapter),
            generator=entry.lineage.generator,
            model=entry.lineage.model,
            second_judge=entry.metrics.get("second_judge"),
        )
        for adapter, entry in reversed(state.adapters.items())
    ]
