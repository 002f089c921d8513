"""The yield of candidates, and the results of the evaluation, over the runs of a store."""

from __future__ import annotations

import logging
from itertools import islice
from typing import Final

from flows.engine.run_folder import RunFolder, runs
from flows.engine.status import listed_state
from flows.stages import selection
from flows.stages.candidates import left_out
from flows.stages.evaluation import COMPARISON, Evaluation
from flows.stages.selection import Selection
from ipa_core.evaluation import Comparison
from ipa_core.reporting.charts import PastRun, RunYield
from storage import ActionResult, Store, StoreError

log = logging.getLogger(__name__)
PAST: Final = 12
"""Runs of one config that a report shows."""
_COUNTS: Final = ("candidates", "kept", "strict_pairs")
_LOOKED_AT: Final = 40
"""Most runs that are looked at to find them: behind a URL each costs a request."""


def run_yields(store: Store) -> list[RunYield]:
    """Return the yield of every run that reached selection, newest first."""
    found = []
    for folder in runs(store):
        try:
            result = selection.selected(folder, store)
        except StoreError as error:
            log.warning("%s", error)
            continue
        if result is not None:
            report = selection.yield_of(result)
            left = None if folder.summary() is None else left_out(folder.dropped())
            found.append(RunYield(run=folder.run_id, config=folder.known_name, report=report, left_out=left))
    return found


def past_runs(store: Store, this: RunFolder, state: str) -> list[PastRun]:
    """Return this run and those before it with a config of the same name, newest first, without experiments.
    ``state`` is of this run, which may not have written its summary yet."""
    found = [
        _past_run(store, folder, state if folder.run_id == this.run_id else listed_state(folder).state)
        for folder in islice((folder for folder in runs(store) if folder.run_id <= this.run_id), _LOOKED_AT)
        if folder.known_name == this.known_name and not folder.is_experiment
    ]
    return found[:PAST]


def _past_run(store: Store, folder: RunFolder, state: str) -> PastRun:
    try:
        keys = folder.items(Selection.name, Evaluation.name)
    except StoreError as error:
        log.warning("%s", error)
        keys = {}
    selected = _result(store, Selection.name, keys.get((Selection.name, selection.ITEM)))
    evaluated = _result(store, Evaluation.name, keys.get((Evaluation.name, COMPARISON)))
    report = None if selected is None else selection.yield_of(selected)
    means = {} if evaluated is None else _means(Comparison.model_validate(evaluated.record))
    return PastRun(
        run=folder.run_id,
        state=state,
        scores=means.get("hand_score"),
        psnr_hand=means.get("psnr_hand"),
        **({} if report is None else {name: getattr(report, name) for name in _COUNTS}),
    )


def _result(store: Store, stage: str, key: str | None) -> ActionResult | None:
    return None if key is None else store.actions.get(stage, key)


def _means(comparison: Comparison) -> dict[str, tuple[float, float]]:
    return {
        metric.name: (metric.base, metric.aligned)
        for metric in comparison.metrics
        if metric.base is not None and metric.aligned is not None
    }
