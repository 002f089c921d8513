"""Charts of the report as inline SVG that follows the page's colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from ipa_core.records import Record, YieldReport

WIDTH: Final = 420
HEIGHT: Final = 160
LEFT: Final = 62
RIGHT: Final = WIDTH - 6
TOP: Final = 20
BASE: Final = HEIGHT - 24
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
    """A line between its lowest and highest value, with the last one written out. Values not finite are left out."""
    finite = [(step, value) for step, value in zip(curve.steps, curve.values, strict=True) if math.isfinite(value)]
    if not finite:
        return Markup("<p>no values</p>")
    points = averaged(finite)
    first, last = points[0][0], points[-1][0]
    low, high = min(value for _, value in points), max(value for _, value in points)
    line = " ".join(
        f"{_between(LEFT, RIGHT, step, first, last):.1f},{_between(BASE, TOP, value, low, high):.1f}"
        for step, value in points
    )
    return Markup(
        '<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{name}">'
        '<line x1="{left}" x2="{right}" y1="{top}" y2="{top}"/><line x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>'
        '<polyline points="{line}"/>'
        '<text class="end" x="{beside}" y="{at_top}">{high}</text>'
        '<text class="end" x="{beside}" y="{at_base}">{low}</text>'
        '<text class="end" x="{right}" y="{above}">last: {value}</text>'
        '<text x="{left}" y="{below}">step {first}</text><text class="end" x="{right}" y="{below}">{last}</text></svg>'
    ).format(
        **_frame(),
        name=curve.name,
        line=line,
        high=f"{high:.3g}",
        low=f"{low:.3g}",
        value=f"{finite[-1][1]:.3g}",
        first=first,
        last=last,
    )


_ALONE = """<style>svg { background: #fff; font-family: sans-serif } line { stroke: #ccc }
polyline { fill: none; stroke: #2563eb; stroke-width: 1.6 }
text { fill: #555; font-size: 12px } text.end { text-anchor: end }</style>"""


def curve_picture(curve: Curve) -> bytes:
    """:func:`curve_svg` as a picture of its own, with its own colours."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}"'
    return curve_svg(curve).replace("<svg", head, 1).replace(">", f">{_ALONE}", 1).encode()


def changes_svg(differences: Sequence[float]) -> Markup:
    """A bar per clip for its change, largest gain first: up and in the good colour above zero, else down."""
    ordered = sorted(differences, reverse=True)
    reach = max((abs(value) for value in ordered), default=0.0) or 1.0
    room = (RIGHT - LEFT) / max(1, len(ordered))
    zero = (TOP + BASE) / 2
    bars = Markup("").join(
        Markup('<rect class="{kind}" x="{x}" y="{y}" width="{wide}" height="{high}"/>').format(
            kind="up" if value >= 0 else "down",
            x=f"{LEFT + place * room:.2f}",
            y=f"{min(zero, _between(zero, TOP, value, 0, reach)):.2f}",
            wide=f"{room * 0.8:.2f}",
            high=f"{abs(value) / reach * (zero - TOP):.2f}",
        )
        for place, value in enumerate(ordered)
    )
    return Markup(
        '<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="change of the hand score per clip">'
        '{bars}<line x1="{left}" x2="{right}" y1="{zero}" y2="{zero}"/>'
        '<text class="end" x="{beside}" y="{at_top}">+{reach}</text>'
        '<text class="end" x="{beside}" y="{at_zero}">0</text>'
        '<text class="end" x="{beside}" y="{at_base}">−{reach}</text>'
        '<text x="{left}" y="{below}">largest gain</text>'
        '<text class="end" x="{right}" y="{below}">largest loss</text></svg>'
    ).format(**_frame(), bars=bars, zero=zero, at_zero=zero + 4, reach=f"{reach:.3f}")


class RunYield(Record):
    """What came of the candidates of one run."""

    run: str
    config: str
    """Name of the run's config."""
    report: YieldReport


_CASES: Final = (
    ("strict", "#2563eb", "strict_pairs"),
    ("both good", "#16a34a", "both_good_pairs"),
    ("mixed", "#d4d4cf", "mixed_pairs"),
    ("both bad", "#dc2626", "both_bad_pairs"),
)
"""The four cases from the bottom up: what they are called, their colour, their field."""


def yield_picture(runs: Sequence[RunYield]) -> bytes:
    """SVG: a bar per run with the shares of the four cases among its pairs of candidates; a run without pairs has
    none. Raises ``ValueError`` without a run."""
    if not runs:
        raise ValueError("a chart of no run")
    room = (RIGHT - LEFT) / len(runs)
    bars = Markup("").join(
        _case_bars(entry.report, LEFT + place * room, room * 0.8, entry.run) for place, entry in enumerate(runs)
    )
    legend = Markup("").join(
        Markup(
            '<rect x="{x}" y="4" width="9" height="9" fill="{color}"/><text x="{beside}" y="13">{name}</text>'
        ).format(x=LEFT + 88 * place, color=color, beside=LEFT + 88 * place + 13, name=name)
        for place, (name, color, _) in enumerate(_CASES)
    )
    picture = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{double}" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="cases of the candidate pairs, run by run">{style}{bars}{legend}'
        '<line x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>'
        '<text class="end" x="{beside}" y="{at_top}">100 %</text><text class="end" x="{beside}" y="{at_base}">0</text>'
        '<text x="{left}" y="{below}">{first}</text><text class="end" x="{right}" y="{below}">{last}</text></svg>'
    ).format(
        **_frame(),
        double=2 * WIDTH,
        style=Markup(_ALONE),
        bars=bars,
        legend=legend,
        first=runs[0].run,
        last=runs[-1].run if len(runs) > 1 else "",
    )
    return picture.encode()


def _case_bars(report: YieldReport, x: float, wide: float, run: str) -> Markup:
    counts = [(color, name, getattr(report, field)) for name, color, field in _CASES]
    total = sum(count for _, _, count in counts)
    parts, below = [], 0
    for color, name, count in counts:
        if count:
            top = _between(BASE, TOP, below + count, 0, total)
            parts.append(
                Markup(
                    '<rect x="{x}" y="{y}" width="{wide}" height="{high}" fill="{color}"><title>{title}</title></rect>'
                ).format(
                    x=f"{x:.2f}",
                    y=f"{top:.2f}",
                    wide=f"{wide:.2f}",
                    high=f"{_between(BASE, TOP, below, 0, total) - top:.2f}",
                    color=color,
                    title=f"{run}: {count} of {total} pairs {name}",
                )
            )
        below += count
    return Markup("").join(parts)


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


def _frame() -> dict[str, int]:
    """Where the parts that all charts share lie."""
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": RIGHT,
        "top": TOP,
        "base": BASE,
        "beside": LEFT - 6,
        "above": TOP - 6,
        "at_top": TOP + 4,
        "at_base": BASE + 4,
        "below": HEIGHT - 6,
    }


def _between(start: float, end: float, value: float, low: float, high: float) -> float:
    """The place from ``start`` (at ``low``) to ``end`` (at ``high``); the middle where there is no range."""
    return start + (end - start) * ((value - low) / (high - low) if high > low else 0.5)
