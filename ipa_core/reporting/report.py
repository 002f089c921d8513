"""The report: one HTML file that holds everything it shows.

It depends on its data alone (no clock, no host, no path), opens without a network and needs no script. Text from
outside is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from jinja2 import Template

from ipa_core.evaluation.comparison import ClipResult, Comparison
from ipa_core.records import Decision, Digest, Record, Ruling, ScoreComponents, YieldReport
from ipa_core.reporting.charts import Curve, changes_chart, curve_chart
from ipa_core.reporting.page import templates
from ipa_core.reporting.reasons import count_by_reason

SHEET_LIMIT: Final = 12
STRIP_LIMIT: Final = 40
ROW_LIMIT: Final = 2000
"""Longer tables are cut here, and their reasons are counted."""

ClipSeed = tuple[str, int]
T = TypeVar("T")


class Sheet(Record):
    """Before and after of one held-out clip and seed."""

    clip: str
    """The name that people know, such as ``waving.mp4 #002``."""
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
    """See records.HandScore."""
    scorable: float
    """See records.HandScore."""
    strip: bytes | None = None
    """JPEG of ``sheets.candidate_strip``."""


class DroppedInput(Record):
    """A source or window that did not go on."""

    source: str
    """The name that people know."""
    window: str
    """``#002`` or ``5.00 s`` (its start); empty if the whole source was dropped."""
    stage: str
    reason: str


class NamedDigest(Record):
    what: str
    digest: Digest


class ReportData(Record):
    run: str
    config: str
    """The complete config as YAML."""
    notes: tuple[str, ...] = ()
    """Sentences about the input that limit what the numbers mean."""
    comparison: Comparison | None
    no_comparison: str | None
    """The reason if there is none."""
    ruling: Ruling | None
    """The promotion rule's; on ``champion``, or on ``comparison`` if there is no champion."""
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
    """Return the complete HTML, with at most 12 sheets, 40 candidate strips and 2,000 rows per table."""
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
    """Return clips and seeds for the sheets, evenly from the largest gain in hand score to the largest loss.

    Not only the best, so that a reader sees good and bad effects of alignment.
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
    """Return clips and seeds for the strips: half kept, half not kept, each evenly from best to worst score."""
    ordered = sorted(decisions, key=lambda decision: (-(decision.score or 0.0), decision.clip_id, decision.seed))
    kept = [decision for decision in ordered if decision.kept]
    not_kept = [decision for decision in ordered if not decision.kept]
    chosen = _evenly(kept, limit // 2) + _evenly(not_kept, limit // 2)
    return [(decision.clip_id, decision.seed) for decision in chosen]


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
