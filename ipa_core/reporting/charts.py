"""Charts of the report and of ``ipa yield``: SVG files in colours for light and dark pages."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ipa_core.evaluation.differences import Gain
from ipa_core.records import LeftOut, Record, YieldReport

MOST_POINTS: Final = 240
"""Most points of a curve; longer ones are averaged over equal stretches."""
_GREY: Final = "#858b94"
_GOOD: Final = "#16a34a"
_BAD: Final = "#dc2626"
_CASES: Final = (
    ("strict", "#2563eb", "strict_pairs"),
    ("both good", _GOOD, "both_good_pairs"),
    ("mixed", "#b8b8b2", "mixed_pairs"),
    ("both bad", _BAD, "both_bad_pairs"),
)
"""Name, colour and field of the four cases, from the bottom of the bar."""


class Curve(Record):
    """One number over the training steps."""

    name: str
    about: str
    """One sentence for people."""
    steps: tuple[int, ...]
    values: tuple[float, ...]


class RunYield(Record):
    """The yield of the candidates of one run."""

    run: str
    config: str
    """Name of the run's config."""
    report: YieldReport
    left_out: LeftOut | None = LeftOut()
    """None: not counted yet, because the run goes on or was killed."""


class PastRun(Record):
    """Results of a run beside those of others of its config. None: the run did not come to it."""

    run: str
    state: str
    scores: tuple[float, float] | None
    """Mean hand score of base and aligned model."""
    psnr_hand: tuple[float, float] | None
    """dB, base and aligned."""
    candidates: int | None = None
    kept: int | None = None
    strict_pairs: int | None = None


def curve_chart(curve: Curve) -> bytes:
    """Draw a line over the steps, without values that are not finite. Its title is the last value."""
    finite = np.isfinite(curve.values)
    steps, values = np.array(curve.steps, float)[finite], np.array(curve.values, float)[finite]
    figure, axes = _drawing(f"last: {values[-1]:.3g}" if len(values) else "no values")
    if len(values):
        parts = min(len(values), MOST_POINTS)
        line = [[part.mean() for part in np.array_split(numbers, parts)] for numbers in (steps, values)]
        axes.plot(*line, color="#2f86b5", linewidth=1.4, marker="." if parts == 1 else "")
    axes.set_xlabel("step")
    return _svg(figure)


def changes_chart(differences: Sequence[float]) -> bytes:
    """Draw a bar per clip for the change of its hand score, largest gain first. Gains and losses differ in colour."""
    ordered = sorted(differences, reverse=True)
    figure, axes = _drawing("from the largest gain to the largest loss")
    axes.bar(range(len(ordered)), ordered, color=[_GOOD if value >= 0 else _BAD for value in ordered])
    axes.axhline(0, color=_GREY, linewidth=0.8)
    axes.set_xlabel("clips")
    axes.set_xticks([])
    return _svg(figure)


def yield_chart(runs: Sequence[RunYield]) -> bytes:
    """Draw a bar per run with the shares of the four cases among its pairs of candidates; none without pairs."""
    figure, axes = _drawing("pairs of candidates, run by run", height=3.2)
    bottom = np.zeros(len(runs))
    counts = np.array([[getattr(entry.report, field) for _, _, field in _CASES] for entry in runs], float)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    for (name, color, _), share in zip(_CASES, shares.T, strict=True):
        axes.bar(range(len(runs)), share, bottom=bottom, color=color, label=name)
        bottom += share
    axes.set_xticks(range(len(runs)), [entry.run for entry in runs], rotation=90)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.1), frameon=False, labelcolor=_GREY)
    return _svg(figure)


def trend_chart(past: Sequence[PastRun]) -> bytes:
    """Draw the hand scores and the share of kept candidates, run by run in the given order."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    places = np.arange(len(past))
    for number, (name, color) in enumerate((("base", _GREY), ("aligned", "#2f86b5"))):
        values = [(place, one.scores[number]) for place, one in zip(places, past, strict=True) if one.scores]
        above.plot(*np.array(values).reshape(-1, 2).T, color=color, marker="o", markersize=4, linewidth=1.4, label=name)
    kept = [one.kept / one.candidates if one.kept is not None and one.candidates else np.nan for one in past]
    below.bar(places, kept, color=_GOOD, width=0.5)
    below.yaxis.set_major_formatter("{x:.0%}")
    _plain(above, "hand score of the held-out clips")
    _plain(below, "kept candidates")
    above.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, labelcolor=_GREY, fontsize=8)
    # The date and time of the id: its last digits tell nothing to people.
    below.set_xticks(places, [one.run[:13] for one in past], rotation=30, ha="right")
    return _svg(figure)


def arms_chart(arms: Sequence[tuple[str, Mapping[str, Gain]]], labels: Mapping[str, str]) -> bytes:
    """Draw each arm's gain over the base with its interval, a panel per metric; ``labels`` names the metrics."""
    figure = Figure(figsize=(2.6 * len(labels), 1.1 + 0.28 * len(arms)), layout="constrained")
    panels = figure.subplots(1, len(labels), sharey=True, squeeze=False)[0]
    for axes, (metric, label) in zip(panels, labels.items(), strict=True):
        _plain(axes, label)
        axes.axvline(0, color=_GREY, linewidth=0.8)
        for place, (_, gains) in enumerate(arms):
            if metric in gains:
                _gain_line(axes, place, gains[metric])
        axes.margins(x=0.1)
        axes.locator_params(axis="x", nbins=4)
    panels[0].set_yticks(range(len(arms)), [name for name, _ in arms])
    panels[0].set_ylim(len(arms) - 0.5, -0.5)  # The first arm is on top, as in the tables.
    return _svg(figure)


def _gain_line(axes: Axes, place: int, gain: Gain) -> None:
    low, high = (gain.interval.low, gain.interval.high) if gain.interval else (gain.mean, gain.mean)
    color = _GOOD if low > 0 else _BAD if high < 0 else _GREY
    axes.plot([low, high], [place, place], color=color, linewidth=1.6)
    axes.plot([gain.mean], [place], color=color, marker="o", markersize=5)


def _drawing(title: str, height: float = 2.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, height), layout="constrained")
    axes = figure.add_subplot()
    _plain(axes, title)
    return figure, axes


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9, loc="right", color=_GREY, parse_math=False)
    axes.tick_params(colors=_GREY, labelsize=8)
    axes.xaxis.label.set(color=_GREY, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)


def _svg(figure: Figure) -> bytes:
    """Return the same bytes for the same chart: no date, and names of parts that follow from their content."""
    buffer = io.BytesIO()
    about = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ipa"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=about)
    return buffer.getvalue()
