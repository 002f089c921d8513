from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ipa_core.evaluation.comparison import Interval
from ipa_core.evaluation.differences import Gain
from ipa_core.records import YieldReport
from ipa_core.reporting.charts import (
    MOST_POINTS,
    Curve,
    PastRun,
    RunYield,
    arms_chart,
    changes_chart,
    curve_chart,
    trend_chart,
    yield_chart,
)

SVG = "{http://www.w3.org/2000/svg}"
_GOOD = "#16a34a"


def texts(chart: bytes) -> list[str]:
    return [text.text or "" for text in ET.fromstring(chart).iter(f"{SVG}text")]


def shapes(chart: bytes, color: str) -> list[np.ndarray]:
    """The points of every path that is filled or drawn in that colour, in the picture's units."""
    paths = [path for path in ET.fromstring(chart).iter(f"{SVG}path") if f" {color}" in path.get("style", "")]
    return [
        np.array([float(word) for word in path.attrib["d"].split() if word not in "MLz"]).reshape(-1, 2)
        for path in paths
    ]


def height(points: np.ndarray) -> float:
    return float(np.ptp(points[:, 1]))


def test_a_curve_goes_through_its_finite_values() -> None:
    chart = curve_chart(Curve(name="gap", about="", steps=(0, 5, 10, 20), values=(1.0, float("nan"), 3.0, 2.0)))
    [line] = shapes(chart, "#2f86b5")
    (x0, x10, x20), (y1, y3, y2) = line.T
    assert x10 - x0 == pytest.approx(x20 - x10, rel=1e-3)
    assert y1 - y2 == pytest.approx(y2 - y3, rel=1e-3)
    assert "last: 2" in texts(chart)


def test_a_curve_of_one_value_can_be_drawn() -> None:
    assert "last: 2" in texts(curve_chart(Curve(name="gap", about="", steps=(1,), values=(2.0,))))


def test_a_curve_without_values_says_so() -> None:
    assert "no values" in texts(curve_chart(Curve(name="gap", about="", steps=(), values=())))


def test_a_long_curve_is_averaged() -> None:
    steps = tuple(range(10_000))
    chart = curve_chart(Curve(name="gap", about="", steps=steps, values=tuple((-1.0) ** step for step in steps)))
    [line] = shapes(chart, "#2f86b5")
    assert len(line) <= MOST_POINTS
    assert "0.0" in "".join(texts(chart))


def test_gains_and_losses_differ_in_colour_and_have_their_size() -> None:
    chart = changes_chart([-0.1, 0.2])
    [gain], [loss] = shapes(chart, "#16a34a"), shapes(chart, "#dc2626")
    assert height(gain) == pytest.approx(2 * height(loss), rel=1e-3)
    assert gain[:, 0].max() < loss[:, 0].min()


def test_no_change_at_all_can_be_drawn() -> None:
    assert "clips" in texts(changes_chart([0.0, 0.0]))


def pairs(run: str, **counts: int) -> RunYield:
    fields = dict.fromkeys(YieldReport.model_fields, 0) | counts
    return RunYield(run=run, config="demo", report=YieldReport(**fields))


def test_the_cases_of_a_run_fill_its_bar() -> None:
    chart = yield_chart([pairs("one", strict_pairs=1, both_good_pairs=3)])
    strict, good = (max(map(height, shapes(chart, color))) for color in ("#2563eb", "#16a34a"))
    assert good == pytest.approx(3 * strict, rel=1e-3)


def test_a_run_without_pairs_has_no_bar() -> None:
    chart = yield_chart([pairs("one"), pairs("two", mixed_pairs=2)])
    mixed = sorted(map(height, shapes(chart, "#b8b8b2")))
    assert mixed[0] == 0 < mixed[-1]


def test_names_of_runs_are_escaped() -> None:
    assert "<script>" in texts(yield_chart([pairs("<script>", mixed_pairs=1)]))


def test_the_same_chart_is_the_same_bytes() -> None:
    assert changes_chart([0.1, -0.2]) == changes_chart([0.1, -0.2])


def test_a_trend_has_a_line_for_each_model_and_a_bar_for_each_yield() -> None:
    runs = [
        PastRun(run=f"2026010{day}-030405-abcd", state="", scores=(0.2, score), psnr_hand=None, candidates=8, kept=kept)
        for day, score, kept in ((1, 0.2, 2), (2, 0.4, 4))
    ]
    chart = trend_chart(runs)
    bars = sorted(height(bar) for bar in shapes(chart, _GOOD))
    assert bars[-1] == pytest.approx(2 * bars[-2], rel=1e-3)
    assert {"base", "aligned", "20260102-0304"} <= set(texts(chart))


def test_a_run_without_results_has_only_its_place_in_the_trend() -> None:
    nothing = PastRun(run="20260101-030405-abcd", state="failed", scores=None, psnr_hand=None)
    assert "20260101-0304" in texts(trend_chart([nothing, nothing]))


def test_an_arm_is_coloured_where_its_interval_leaves_zero_out() -> None:
    arms = [
        (name, {"psnr": Gain(mean=(low + high) / 2, interval=Interval(low=low, high=high))})
        for name, low, high in (("better", 0.1, 0.3), ("worse", -0.2, -0.1), ("unclear", -0.1, 0.1))
    ]
    chart = arms_chart(arms, {"psnr": "PSNR (dB)"})
    lines = [path for path in ET.fromstring(chart).iter(f"{SVG}path") if "stroke-width: 1.6" in path.get("style", "")]
    assert [path.attrib["style"].partition("stroke: ")[2][:7] for path in lines] == [_GOOD, "#dc2626", "#858b94"]
    assert {"better", "worse", "unclear", "PSNR (dB)"} <= set(texts(chart))
