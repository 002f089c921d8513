"""The yield of candidates over the runs of a store."""

from __future__ import annotations

from flows.engine.run_folder import runs
from flows.stages import selection
from ipa_core.reporting.charts import RunYield
from storage import Store


def run_yields(store: Store) -> list[RunYield]:
    """Return the yield of every run that reached selection, oldest first."""
    found = []
    for folder in runs(store):
        result = selection.selected(folder, store)
        if result is not None:
            found.append(RunYield(run=folder.run_id, config=folder.name, report=selection.yield_of(result)))
    return found[::-1]
