"""The report: one HTML file that carries everything it shows.

It is a function of its data alone (no clock, no host, no path), opens without a network, needs no script, and any text
from outside is escaped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from jinja2 import Template

from ipa_core.evaluation.comparison import ClipResult, Comparison
from ipa_core.records import Decision, Digest, Record, Ruling, ScoreComponents, YieldReport
from ipa_core.reporting.charts import Curve, changes_chart, curve_chart
from ipa_core.reporting.page import templates

SHEET_LIMIT: Final = 12
STRIP_LIMIT: Final = 40
ROW_LIMIT: Final = 2000
"""Longer tables are cut there and counted by reason."""

ClipSeed = tuple[str, int]
T = TypeVar("T")


class Sheet(Record):
    """Before and after of one held-out clip and seed."""

    clip: str
    """The name that people know, such as ``waving.mp4, 0:05``."""
    caption: str
    reference: bytes
    """JPEG."""
    frames: bytes
    """JPEG of ``sheets.comparison_sheet``: rows driving with skeleton, base, aligned."""


class CandidateLine(Record):
    clip: str
    """The name that people know."""
    decision: Decision
    components: ScoreComponents
    worst: dict[str, float]
    """As in records.HandScore."""
    scorable: float
    """As in records.HandScore."""
    strip: bytes | None = None
    """JPEG of ``sheets.candidate_strip``."""


class DroppedInput(Record):
    """A source or window that did not go on."""

    source: str
    """The name that people know."""
    window: str
    """``0:05 - 0:10``; empty where the whole source was dropped."""
    stage: str
    reason: str


class NamedDigest(Record):
    what: str
    digest: Digest


class ReportData(Record):
    """All that a report shows."""

    run: str
    config: str
    """Complete, as YAML."""
    comparison: Comparison | None
    no_comparison: str | None
    """Why there is none."""
    ruling: Ruling | None
    """Of the promotion rule; on ``champion``, or on ``comparison`` where there is no champion."""
    champion: Comparison | None
    """The champion (as ``base``) against the aligned model; ``None``: there is no champion."""
    sheets: tuple[Sheet, ...]
    yield_report: YieldReport
    best_score: float | None
    candidates: tuple[CandidateLine, ...]
    dropped: tuple[DroppedInput, ...]
    curves: tuple[Curve, ...]
    digests: tuple[NamedDigest, ...]


def render_report(report: ReportData) -> str:
    """HTML, complete. At most 12 sheets and 40 candidate strips are shown, and 2,000 rows per table."""
    candidates = sorted(report.candidates, key=_best_first)
    kept = [line for line in candidates if line.decision.kept]
    not_kept = [line for line in candidates if not line.decision.kept]
    return _template().render(
        report=report,
        comparison=report.comparison,
        sheets=report.sheets[:SHEET_LIMIT],
        kept_strips=[line for line in kept if line.strip][: STRIP_LIMIT // 2],
        other_strips=[line for line in not_kept if line.strip][: STRIP_LIMIT // 2],
        candidates=candidates[:ROW_LIMIT],
        candidates_cut=max(0, len(candidates) - ROW_LIMIT),
        candidate_reasons=count_by_reason(line.decision.reason for line in not_kept),
        dropped=report.dropped[:ROW_LIMIT],
        dropped_cut=max(0, len(report.dropped) - ROW_LIMIT),
        dropped_reasons=count_by_reason(line.reason for line in report.dropped),
        changes=changes_chart([change.difference for change in report.comparison.by_clip])
        if report.comparison
        else None,
        curves=[(curve, curve_chart(curve)) for curve in report.curves],
    )


def sheets_to_show(
    base: Sequence[ClipResult], aligned: Sequence[ClipResult], limit: int = SHEET_LIMIT
) -> list[ClipSeed]:
    """Clips and seeds for the sheets, from the largest gain in hand score to the largest loss, evenly in between.

    Not the best ones: a reader is to see what alignment did, good and bad.
    """
    first = {(result.clip_id, result.seed): result.score.score for result in base}
    gains: list[tuple[float, ClipSeed]] = []
    for result in aligned:
        position = (result.clip_id, result.seed)
        before, after = first.get(position), result.score.score
        if before is not None and after is not None:
            gains.append((before - after, position))
    return [position for _, position in _evenly(sorted(gains), limit)]


def strips_to_show(decisions: Sequence[Decision], limit: int = STRIP_LIMIT) -> list[ClipSeed]:
    """Clips and seeds for the candidate strips: half kept, half not kept, each evenly from best to worst score."""
    ordered = sorted(decisions, key=lambda decision: (-(decision.score or 0.0), decision.clip_id, decision.seed))
    kept = [decision for decision in ordered if decision.kept]
    not_kept = [decision for decision in ordered if not decision.kept]
    chosen = _evenly(kept, limit // 2) + _evenly(not_kept, limit // 2)
    return [(decision.clip_id, decision.seed) for decision in chosen]


def count_by_reason(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Reasons that differ only in their numbers, or in the clip that they name, are one; most frequent first."""
    alike = Counter(re.sub(r"\b[0-9a-f]{16}-\d{3}\b|[-+]?\d+(\.\d+)?", "…", reason) for reason in reasons)
    return sorted(alike.items(), key=lambda item: (-item[1], item[0]))


def _evenly(items: Sequence[T], limit: int) -> list[T]:
    if len(items) <= limit:
        return list(items)
    return [items[position * (len(items) - 1) // (limit - 1)] for position in range(limit)]


def _best_first(line: CandidateLine) -> tuple[bool, float, str, int]:
    decision = line.decision
    score = -1.0 if decision.score is None else decision.score
    return not decision.kept, -score, decision.clip_id, decision.seed


def _template() -> Template:
    environment = templates()
    environment.filters.update(number=_number, signed=_signed, percent=_percent, percent1=_percent1)
    return environment.get_template("report.html.j2")


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _signed(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:+,.{digits}f}".replace("-", "−")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _percent1(value: float) -> str:
    return f"{value:.1%}"
