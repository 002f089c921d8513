from __future__ import annotations

import re

from ipa_core.records import YieldReport
from ipa_core.reporting.charts import MOST_POINTS, Curve, RunYield, averaged, changes_svg, curve_svg, yield_picture


def test_a_curve_reaches_from_its_lowest_to_its_highest_value() -> None:
    drawing = str(curve_svg(Curve(name="gap", about="", steps=(0, 5, 10), values=(1.0, float("nan"), 3.0))))
    assert 'points="62.0,136.0 414.0,20.0"' in drawing
    assert "last: 3" in drawing


def test_a_curve_of_one_value_can_be_drawn() -> None:
    assert 'points="238.0,78.0"' in curve_svg(Curve(name="gap", about="", steps=(1,), values=(2.0,)))


def test_a_curve_without_values_says_so() -> None:
    assert "no values" in curve_svg(Curve(name="gap", about="", steps=(), values=()))


def test_a_long_curve_is_averaged() -> None:
    points = averaged([(step, 2.0) for step in range(10_007)])
    assert len(points) == MOST_POINTS
    assert points[0] == (0, 2.0)
    assert points[-1] == (10_006, 2.0)


def test_gains_stand_above_zero_and_losses_below() -> None:
    drawing = changes_svg([-0.1, 0.2])
    assert re.findall(r'class="(up|down)" x="([0-9.]+)" y="([0-9.]+)".*?height="([0-9.]+)"', drawing) == [
        ("up", "62.00", "20.00", "58.00"),
        ("down", "238.00", "78.00", "29.00"),
    ]


def test_no_change_at_all_can_be_drawn() -> None:
    assert "largest gain" in changes_svg([0.0, 0.0])


def pairs(run: str, **counts: int) -> RunYield:
    fields = dict.fromkeys(YieldReport.model_fields, 0) | counts
    return RunYield(run=run, config="demo", report=YieldReport(**fields))


def test_the_cases_of_a_run_fill_its_bar() -> None:
    drawing = yield_picture([pairs("one", strict_pairs=1, both_good_pairs=3)]).decode()
    heights = [float(height) for height in re.findall(r'height="([\d.]+)" fill="[^"]+"><title>', drawing)]
    assert heights == [29.0, 87.0]  # of 116
    assert "one: 1 of 4 pairs strict" in drawing


def test_a_run_without_pairs_has_no_bar() -> None:
    drawing = yield_picture([pairs("one"), pairs("two", mixed_pairs=2)]).decode()
    assert drawing.count("<title>") == 1


def test_names_of_runs_are_escaped() -> None:
    assert "<script>" not in yield_picture([pairs("<script>", mixed_pairs=1)]).decode()
