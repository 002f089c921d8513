"""The tables and sentences of `ipa score preview` for people."""

from __future__ import annotations

from typing import Final

import numpy as np

from flows.experiments.score_preview import EVEN, Calibration, Way
from ipa_core.generation.calibration import Estimate

AIM: Final = 0.95
"""Share of the kept samples that early rejection should leave."""
_ENOUGH: Final = 12
"""Clips below which drawing them again says little."""
Table = tuple[str, str, tuple[str, ...], list[tuple[str, ...]]]
"""Caption, alignment (an `l` or an `r` for each column), head, rows."""


def tables(found: Calibration) -> list[Table]:
    """Return the tables that people read."""
    levels: list[tuple[str, ...]] = [
        (
            row.setting,
            f"{row.t:.2f}",
            str(row.steps),
            "–" if row.correlation is None else _estimate(row.correlation, ".2f"),
        )
        for row in found.levels
    ]
    shares = "best, kept and strict are shares of what all candidates of the first setting give"
    return [
        (
            "Rank correlation of preview and final score within a clip",
            "lrrr",
            ("setting", "t", "steps until then", "correlation"),
            levels,
        ),
        (
            f"What a kept sample costs. Cost: share of the steps of all candidates; {shares}; "
            "at equal cost: fewer candidates of the same setting, all finished; last: full generations a sample",
            "llrrrrrrr",
            ("setting", "way", "cost", "best", "kept", "strict", "at equal cost", "per kept", "per strict"),
            [_row(row, at_equal_cost=True) for row in found.ways],
        ),
        (
            f"The alternatives at a cost of at most {EVEN:g}: fewer candidates of each setting, and the early "
            "rejection and the first pass that keep most (chosen and measured on the same clips, so too good)",
            "llrrrrrr",
            ("setting", "way", "cost", "best", "kept", "strict", "per kept", "per strict"),
            [_row(row) for row in sorted(found.alternatives, key=_price)],
        ),
    ]


def _row(row: Way, at_equal_cost: bool = False) -> tuple[str, ...]:
    even = " / ".join(_number(one, ".0%") for one in (row.even_best, row.even_kept, row.even_strict))
    return (
        *(row.setting, row.name, f"{row.cost:.2f}"),
        *(_estimate(one, ".0%") for one in (row.best, row.kept, row.strict)),
        *((even,) if at_equal_cost else ()),
        *("–" if one is None else f"{one:.2f}" for one in (row.per_kept, row.per_strict)),
    )


def _price(row: Way) -> tuple[float, float]:
    return tuple(float("inf") if one is None else one for one in (row.per_kept, row.per_strict))  # type: ignore[return-value]


def verdict(found: Calibration) -> list[str]:
    """Return sentences: how near early rejection of the first setting comes to the aim."""
    mine = [row for row in found.ways if row.setting == found.ways[0].setting and row.name.startswith("t =")]
    lines = [
        f"{found.clips} clips, {found.per_clip} candidates of each. Kept: a score of at least {found.threshold:g} "
        f"(selection.threshold). Strict: at least {found.strict:.3f}, which one finished candidate in ten reaches."
    ]
    if found.clips < _ENOUGH:
        lines.append(f"{found.clips} clips are an indication at most, and their intervals are too narrow.")
    for word in ("kept", "strict"):
        half = [row for row in mine if row.cost <= 0.5]
        enough = [row for row in mine if getattr(row, word).value >= AIM]
        if half:
            row = max(half, key=lambda row: getattr(row, word).value)
            share = _estimate(getattr(row, word), ".0%")
            lines.append(f"At half of the steps at most, {share} of the {word} samples stay ({row.name}).")
        if enough:
            row = min(enough, key=lambda row: row.cost)
            lines.append(f"{AIM:.0%} of the {word} samples cost {row.cost:.2f} of the steps ({row.name}).")
        else:
            lines.append(f"No setting keeps {AIM:.0%} of the {word} samples.")
    return lines


def _estimate(one: Estimate, form: str) -> str:
    value = _number(one.value, form)
    return value if one.low is None or one.high is None else f"{value} ({one.low:{form}} to {one.high:{form}})"


def _number(value: float, form: str) -> str:
    return "–" if np.isnan(value) else f"{value:{form}}"  # A share of nothing.
