"""Training curves as inline SVG that follows the page's colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from ipa_core.records import Record

WIDTH: Final = 420
HEIGHT: Final = 160
LEFT: Final = 4
TOP: Final = 14
BOTTOM: Final = 24
MOST_POINTS: Final = 240
"""Longer curves are averaged over equal stretches."""


class Curve(Record):
    """One number over the training steps."""

    name: str
    about: str
    """One sentence for people."""
    steps: tuple[int, ...]
    values: tuple[float, ...]


def curve_svg(curve: Curve) -> Markup:
    """A line over a light grid, with the lowest, highest and last value written out. Values not finite are left out."""
    finite = [(step, value) for step, value in zip(curve.steps, curve.values, strict=True) if math.isfinite(value)]
    if not finite:
        return Markup("<p>no values</p>")
    points = averaged(finite)
    first, last = points[0][0], points[-1][0]
    low, high = min(value for _, value in points), max(value for _, value in points)
    line = " ".join(f"{_place(step, first, last):.1f},{_level(value, low, high):.1f}" for step, value in points)
    return Markup(
        '<svg class="curve" viewBox="0 0 {width} {height}" role="img" aria-label="{name}">'
        '<line class="grid" x1="{left}" x2="{right}" y1="{top}" y2="{top}"/>'
        '<line class="grid" x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>'
        '<polyline points="{line}"/>'
        '<text x="{left}" y="{above}">{high}</text><text x="{left}" y="{inside}">{low}</text>'
        '<text x="{right}" y="{above}" text-anchor="end">last {value}</text>'
        '<text x="{left}" y="{below}">step {first}</text>'
        '<text x="{right}" y="{below}" text-anchor="end">{last}</text></svg>'
    ).format(
        width=WIDTH,
        height=HEIGHT,
        name=curve.name,
        left=LEFT,
        right=WIDTH - LEFT,
        top=TOP + 4,
        base=HEIGHT - BOTTOM,
        line=line,
        above=TOP,
        inside=HEIGHT - BOTTOM - 4,
        below=HEIGHT - 6,
        high=f"{high:.4g}",
        low=f"{low:.4g}",
        value=f"{finite[-1][1]:.4g}",
        first=first,
        last=last,
    )


def averaged(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most :data:`MOST_POINTS` points; the first and the last step stay where they are."""
    if len(points) <= MOST_POINTS:
        return list(points)
    edges = [place * len(points) // MOST_POINTS for place in range(MOST_POINTS + 1)]
    stretches = [points[start:end] for start, end in pairwise(edges)]
    steps = [points[0][0], *(stretch[len(stretch) // 2][0] for stretch in stretches[1:-1]), points[-1][0]]
    return [
        (step, sum(value for _, value in stretch) / len(stretch))
        for step, stretch in zip(steps, stretches, strict=True)
    ]


def _place(step: int, first: int, last: int) -> float:
    return LEFT + (WIDTH - 2 * LEFT) * ((step - first) / (last - first) if last > first else 0.5)


def _level(value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low) if high > low else 0.5
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP - 4)
