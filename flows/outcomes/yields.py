"""The yield of candidates over the runs of a store."""

from __future__ import annotations

from collections.abc import Sequence

from flows.engine.run_folder import runs
from flows.stages import selection
from ipa_core.reporting.charts import RunYield
from storage import Store

_HEAD: tuple[str, ...] = (
    *("run", "config", "clips", "candidates", "good", "bad", "unscorable", "kept"),
    *("1 both good", "2 both bad", "3 mixed", "4 strict", "clips with 4"),
)


def run_yields(store: Store) -> list[RunYield]:
    """Of every run that came to its selection, oldest first."""
    found = []
    for folder in runs(store):
        result = selection.selected(folder, store)
        if result is not None:
            found.append(RunYield(run=folder.run_id, config=folder.name, report=selection.yield_of(result)))
    return found[::-1]


def yield_table(found: Sequence[RunYield]) -> str:
    """For people: a line per run; cases 1 to 4 are pairs of one clip's candidates."""
    if not found:
        return "no run of this store has come to its selection"
    rows = [_HEAD, *(_row(entry) for entry in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(text.ljust(width) if column < 2 else text.rjust(width) for column, (text, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    )


def _row(entry: RunYield) -> tuple[str, ...]:
    report = entry.report
    counts = (report.clips, report.candidates, report.good, report.bad, report.unscorable, report.kept)
    pairs = (report.both_good_pairs, report.both_bad_pairs, report.mixed_pairs, report.strict_pairs)
    return entry.run, entry.config, *(str(count) for count in (*counts, *pairs, report.clips_with_strict_pair))
