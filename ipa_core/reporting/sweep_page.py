"""The results of a sweep for people: tables of means by section, of differences from the base with a chart, of
contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ipa_core.evaluation.differences import BY_NAME, SHOWN, Difference, Gain, with_interval
from ipa_core.evaluation.sweep import ArmRow, EqualDrift, SweepTable
from ipa_core.reporting.charts import arms_chart
from ipa_core.reporting.page import Chart, Section, Table

COMPARED: Final = ("psnr_hand", "ssim_hand", "hand_score", "fingers", "psnr", "sharpness_hand")
"""Metrics whose differences are always shown."""
_DIGITS: Final = {"psnr": 2, "psnr_hand": 2}
_DISTANCES: Final = {"fvd": "FVD", "fid_vid": "FID-VID"}
_LABELS: Final = {name: BY_NAME[name].label for name in SHOWN} | _DISTANCES
_OPTIONAL: Final = frozenset({"second_judge", *_DISTANCES})
"""Shown where they were measured."""


def compared(table: SweepTable) -> tuple[str, ...]:
    """Return the metrics whose differences are shown."""
    return COMPARED if table.base.get("second_judge") is None else (*COMPARED, "second_judge")


def sweep_sections(table: SweepTable) -> tuple[Section, ...]:
    headings = list(dict.fromkeys(row.section for row in table.rows))
    found = [_means_section(table, heading, number == 0) for number, heading in enumerate(headings)]
    found.append(_base_section(table))
    if table.contrasts:
        found.append(_contrast_section(table))
    if table.equal_drift:
        found.append(_equal_drift_section(table))
    return tuple(found)


def _means_section(table: SweepTable, heading: str, with_base: bool) -> Section:
    rows = [row for row in table.rows if row.section == heading]
    shown = [name for name in (*SHOWN, *_DISTANCES) if name not in _OPTIONAL or table.base.get(name) is not None]
    cells = [(row.name, *_about(row), *(_number(row.means[name], name) for name in shown)) for row in rows]
    if with_base:
        cells.insert(0, ("base", "", "", "", "0", *(_number(table.base[name], name) for name in shown)))
    columns = ("arm", "seeds", "samples", "steps", "drift", *(_LABELS[name] for name in shown))
    troubles = [f"{row.name}: {row.trouble}" for row in rows if row.trouble]
    return Section(heading, (Table(columns, tuple(cells)), *troubles))


def _base_section(table: SweepTable) -> Section:
    shown = [row for row in table.rows if row.seeds]
    metrics = compared(table)
    rows = tuple((row.name, *_compared(row.against_base, metrics)) for row in shown)
    return Section(
        "Against the base",
        (
            "Mean difference of each arm from the base on the same clips and noise, with its 95 % interval over clips "
            "and training seeds (none with one seed, which says nothing about seeds), and the share of videos that "
            "beat the base's. In the chart a line is an interval; it is coloured if it leaves zero out.",
            *([_chart(shown, metrics)] if shown else []),
            Table(("arm", *_columns(metrics)), rows),
        ),
    )


def _chart(rows: Sequence[ArmRow], metrics: Sequence[str]) -> Chart:
    labels = {name: _LABELS[name] for name in metrics}
    svg = arms_chart([(row.name, row.against_base) for row in rows], labels)
    return Chart("arms.svg", "gain of each arm over the base, with its 95 % interval", svg)


def _contrast_section(table: SweepTable) -> Section:
    metrics = compared(table)
    rows = tuple((f"{one.better} − {one.worse}", *_compared(one.differences, metrics)) for one in table.contrasts)
    return Section(
        "One arm against another",
        ("First minus second, paired by clip, noise and training seed.", Table(("arms", *_columns(metrics)), rows)),
    )


def _equal_drift_section(table: SweepTable) -> Section:
    metrics = compared(table)
    rows = tuple(_equal_drift_row(one, metrics) for one in table.equal_drift if one.seeds)
    troubles = [f"{one.arm}: {one.trouble}" for one in table.equal_drift if one.trouble]
    return Section(
        "At the same drift",
        (
            "Each arm minus what the other series reaches at the arm's drift, on the straight line between its two "
            "points nearest in drift, the base being one of them; 95 % intervals take the drifts as exact. Where the "
            "series flattens out the line lies too low, so a small lead shows nothing.",
            Table(("arm", "seeds", "drift", *(_LABELS[name] for name in metrics)), rows),
            *troubles,
        ),
    )


def _equal_drift_row(one: EqualDrift, metrics: Sequence[str]) -> tuple[str, ...]:
    return (one.arm, str(one.seeds), _percent(one.drift), *(_gain(one.gains, name) for name in metrics))


def _columns(metrics: Sequence[str]) -> list[str]:
    return [f"{_LABELS[name]}: {what}" for name in metrics for what in ("difference", "wins")]


def _compared(found: Mapping[str, Difference], metrics: Sequence[str]) -> list[str]:
    return [cell for name in metrics for cell in (_gain(found, name), _wins(found.get(name)))]


def _about(row: ArmRow) -> tuple[str, ...]:
    counts = (row.seeds, row.samples, row.steps)
    return (*("–" if count is None else f"{count:,}" for count in counts), _percent(row.drift))


def _gain(found: Mapping[str, Gain], name: str) -> str:
    if name not in found:
        return "–"
    gain = found[name]
    return with_interval(gain.mean, gain.interval, f"+.{_DIGITS.get(name, 3)}f", one_seed=gain.one_seed)


def _wins(found: Difference | None) -> str:
    return "–" if found is None else with_interval(found.win_rate, found.win_rate_interval, ".2f")


def _number(value: float | None, name: str) -> str:
    return "–" if value is None else f"{value:.{_DIGITS.get(name, 3)}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
