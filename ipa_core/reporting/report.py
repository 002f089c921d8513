"""The report's results: what follows from the results of a run's stages. :mod:`run_record` puts the run around them.

It depends on its data alone (no clock, no host, no path), so a run with the same results uses it again. It opens
without a network and needs no script, because it holds its pictures and films: one file can be sent to somebody, and
a store behind a URL has only this one to fetch. Text from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final, TypeVar

from jinja2 import Environment

from ipa_core.evaluation.comparison import METRICS, SECOND_JUDGE, ClipResult, Comparison, hand_score
from ipa_core.evaluation.preferences import Preferred
from ipa_core.records import Decision, Digest, LeftOut, Record, Ruling, ScoreComponents, YieldReport
from ipa_core.reporting.charts import Curve, changes_chart, curve_chart
from ipa_core.reporting.page import templates
from ipa_core.reporting.reasons import count_by_reason
from ipa_core.reporting.sheets import ROWS

SHEET_LIMIT: Final = 12
STRIP_LIMIT: Final = 40
ROW_LIMIT: Final = 2000
"""Longer tables are cut here, and their reasons are counted."""
PREVIEW_LIMIT: Final = 6
"""Panels of a preview's film."""
FILM_LIMIT: Final = 12_000_000
"""Bytes of all films; sheets beyond have none."""
CLIP_METRICS: Final = ("hand_score", "psnr_hand", "ssim_hand", "fingers", "psnr", "ssim", "second_judge")
"""Metrics of a clip's line, by name."""

ClipSeed = tuple[str, int]
T = TypeVar("T")


class Sheet(Record):
    """Before and after of one held-out clip and seed."""

    clip: str
    """The name that people know, such as ``waving.mp4 #002``."""
    caption: str
    reference: bytes
    """JPEG."""
    rows: tuple[bytes, ...]
    """``sheets.comparison_sheet``."""
    film: bytes | None = None
    """``sheets.film``."""


class ClipLine(Record):
    """One held-out clip: means over its pairs of videos with the same seed."""

    clip: str
    """The name that people know."""
    pairs: int
    values: dict[str, tuple[float, float] | None]
    """Base and aligned by the name of the metric; None if no pair has it."""

    def difference(self, metric: str) -> float | None:
        pair = self.values[metric]
        return None if pair is None else pair[1] - pair[0]


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


class Preview(Record):
    """One held-out clip as the training went on (`alignment.preview_every`), always from the same noise."""

    clip: str
    """The name that people know."""
    steps: tuple[int, ...]
    """The panels of the film, from left to right, by the number of steps before them."""
    film: bytes
    """``sheets.film``."""


class NamedDigest(Record):
    what: str
    digest: Digest


class ReportData(Record):
    notes: tuple[str, ...] = ()
    """Sentences about the input that limit what the numbers mean."""
    judges: str | None = None
    """Sentence that says who chose the samples and who judges; it stands at each table that compares the models."""
    comparison: Comparison | None
    no_comparison: str | None
    """The reason if there is none."""
    ruling: Ruling | None
    """The promotion rule's; on ``champion``, or on ``comparison`` if there is no champion."""
    champion: Comparison | None
    """The champion (as ``base``) against the aligned model; ``None``: there is no champion."""
    preferred: tuple[Preferred, ...] = ()
    """What people said who compared blind; () if nobody did."""
    sheets: tuple[Sheet, ...]
    yield_report: YieldReport
    left_out: LeftOut = LeftOut()
    best_score: float | None
    candidates: tuple[CandidateLine, ...]
    clips: tuple[ClipLine, ...]
    """From the largest gain in hand score to the largest loss."""
    curves: tuple[Curve, ...]
    previews: tuple[Preview, ...] = ()
    digests: tuple[NamedDigest, ...]


def render_results(report: ReportData) -> str:
    """Return the HTML of the results, with at most 12 sheets, 40 candidate strips and 2,000 rows per table."""
    candidates = sorted(report.candidates, key=_best_first)
    kept = [line for line in candidates if line.decision.kept]
    not_kept = [line for line in candidates if not line.decision.kept]
    return (
        report_templates()
        .get_template("results.html.j2")
        .render(
            report=report,
            comparison=report.comparison,
            sheets=_within_limit(report.sheets[:SHEET_LIMIT]),
            sheets_left_out=max(0, len(report.sheets) - SHEET_LIMIT),
            sheet_rows=lambda sheet: list(zip(ROWS, sheet.rows, strict=True)),
            clips=report.clips[:ROW_LIMIT],
            kept_strips=[line for line in kept if line.strip][: STRIP_LIMIT // 2],
            other_strips=[line for line in not_kept if line.strip][: STRIP_LIMIT // 2],
            candidates=candidates[:ROW_LIMIT],
            candidates_cut=max(0, len(candidates) - ROW_LIMIT),
            candidate_reasons=count_by_reason(line.decision.reason for line in not_kept),
            changes=changes_chart([change.difference for change in report.comparison.by_clip])
            if report.comparison
            else None,
            judged_twice=any(line.values.get("second_judge") for line in report.clips),
            curves=[(curve, curve_chart(curve)) for curve in report.curves],
        )
    )


def sheets_to_show(
    base: Sequence[ClipResult], aligned: Sequence[ClipResult], limit: int = SHEET_LIMIT
) -> list[ClipSeed]:
    """Return clips and seeds for the sheets, evenly from the largest gain in hand score to the largest loss.

    Not only the best, so that a reader sees good and bad effects of alignment.
    """
    first = {(result.clip_id, result.seed): hand_score(result) for result in base}
    gains: list[tuple[float, ClipSeed]] = []
    for result in aligned:
        position = (result.clip_id, result.seed)
        before, after = first.get(position), hand_score(result)
        if before is not None and after is not None:
            gains.append((before - after, position))
    return [position for _, position in evenly(sorted(gains), limit)]


def strips_to_show(decisions: Sequence[Decision], limit: int = STRIP_LIMIT) -> list[ClipSeed]:
    """Return clips and seeds for the strips: half kept, half not kept, each evenly from best to worst score."""
    ordered = sorted(decisions, key=lambda decision: (-(decision.score or 0.0), decision.clip_id, decision.seed))
    kept = [decision for decision in ordered if decision.kept]
    not_kept = [decision for decision in ordered if not decision.kept]
    chosen = evenly(kept, limit // 2) + evenly(not_kept, limit // 2)
    return [(decision.clip_id, decision.seed) for decision in chosen]


def clip_lines(
    base: Sequence[ClipResult], aligned: Sequence[ClipResult], names: Mapping[str, str]
) -> tuple[ClipLine, ...]:
    """Return the lines of all clips with a pair of videos; ``names`` has a clip's name by its id."""
    first = {(result.clip_id, result.seed): result for result in base}
    pairs: dict[str, list[tuple[ClipResult, ClipResult]]] = {}
    for result in aligned:
        before = first.get((result.clip_id, result.seed))
        if before is not None:
            pairs.setdefault(result.clip_id, []).append((before, result))
    lines = [
        ClipLine(clip=names[clip], pairs=len(found), values={name: _means(name, found) for name in CLIP_METRICS})
        for clip, found in pairs.items()
    ]
    return tuple(sorted(lines, key=lambda line: (-(line.difference("hand_score") or 0.0), line.clip)))


def _means(name: str, pairs: Sequence[tuple[ClipResult, ClipResult]]) -> tuple[float, float] | None:
    read = next(metric.read for metric in (*METRICS, SECOND_JUDGE) if metric.name == name)
    values = [(read(one), read(other)) for one, other in pairs]
    measured = [(one, other) for one, other in values if one is not None and other is not None]
    return (fmean(one for one, _ in measured), fmean(other for _, other in measured)) if measured else None


def _within_limit(sheets: Sequence[Sheet]) -> list[Sheet]:
    """Drop the films beyond :data:`FILM_LIMIT`."""
    found, spent = [], 0
    for sheet in sheets:
        spent += len(sheet.film or b"")
        found.append(sheet if spent <= FILM_LIMIT else sheet.model_copy(update={"film": None}))
    return found


def evenly(items: Sequence[T], limit: int) -> list[T]:
    """Return at most ``limit`` items, the first and the last among them. ``limit`` is 2 or more."""
    if len(items) <= limit:
        return list(items)
    return [items[position * (len(items) - 1) // (limit - 1)] for position in range(limit)]


def _best_first(line: CandidateLine) -> tuple[bool, float, str, int]:
    decision = line.decision
    score = -1.0 if decision.score is None else decision.score
    return not decision.kept, -score, decision.clip_id, decision.seed


def report_templates() -> Environment:
    environment = templates()
    environment.filters.update(number=_number, signed=_signed, percent=_percent, percent1=_percent1)
    return environment


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _signed(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:+,.{digits}f}".replace("-", "−")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _percent1(value: float) -> str:
    return f"{value:.1%}"
