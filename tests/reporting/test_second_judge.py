"""The second judge in what people read, and who chose and who judged at each table that compares two models."""

from __future__ import annotations

from ipa_core.evaluation import ClipResult, Comparison, compare
from ipa_core.evaluation.sweep import Arm, Run, sweep_table
from ipa_core.reporting.card import evaluation_card
from ipa_core.reporting.report import clip_lines, render_results
from ipa_core.reporting.sweep_page import sweep_sections
from tests.evaluation.material import paired, report_data
from tests.reporting.test_report import ruling

JUDGES = "Chosen by the hand score, version 2. Judged by the second judge, which never chooses"
LABEL = "second judge (never chooses)"


def rows(judged: bool = True) -> tuple[list[ClipResult], list[ClipResult]]:
    """The second judge gives 0.5 to base and 0.6 to aligned."""
    both = paired(12, gain=0.2)
    if not judged:
        return both
    base, aligned = (
        [row.model_copy(update={"second_judge": value}) for row in side]
        for side, value in zip(both, (0.5, 0.6), strict=True)
    )
    return base, aligned


def comparison() -> Comparison:
    return compare(*rows(), bootstrap=50)


def test_each_table_that_compares_says_who_chose_and_who_judged() -> None:
    """The clips one by one, the base model, the champion."""
    found = report_data(judges=JUDGES, champion=comparison(), ruling=ruling(True, "wins"))
    text = render_results(found)
    assert text.count(JUDGES) == 3


def test_the_report_has_its_line_with_wins_and_interval() -> None:
    text = " ".join(render_results(report_data(comparison=comparison())).split())
    line = text.partition(f"{LABEL} ↑</td>")[2].partition("</tr>")[0]
    assert "0.500" in line and "0.600" in line and "+0.100 to +0.100" in line and "100%" in line


def test_the_report_has_it_clip_by_clip() -> None:
    names = {row.clip_id: row.clip_id for row in rows()[0]}
    lines = clip_lines(*rows(), names)
    assert lines[0].values["second_judge"] == (0.5, 0.6)
    assert '<th class="n">second judge</th>' in render_results(report_data(clips=lines))


def test_a_report_without_it_has_no_column() -> None:
    assert LABEL not in render_results(report_data())


def test_the_model_card_has_its_sentence() -> None:
    card = evaluation_card(comparison(), judges=JUDGES)
    assert (
        f"The {LABEL}: +0.100 (95 % interval +0.100 to +0.100), the LoRA wins 100% (95 % interval 100% to 100%) of the "
        "pairs."
    ) in card
    assert f"{JUDGES}." in card and f"| {LABEL} | 0.500 | 0.600 | +0.100 |" in card


def columns(judged: bool) -> list[str]:
    base, aligned = rows(judged)
    run = Run(seed=0, lora="ab" * 32, samples=4, steps=8, results=tuple(aligned))
    table = sweep_table("t", base, [Arm(name="a", section="Arms", settings=(), runs=(run,))])
    return [
        column
        for section in sweep_sections(table)
        for block in section.blocks
        for column in getattr(block, "columns", ())
    ]


def test_a_sweep_has_its_means_differences_and_wins() -> None:
    assert [name for name in columns(True) if LABEL in name] == [LABEL, f"{LABEL}: difference", f"{LABEL}: wins"]


def test_a_sweep_without_it_has_no_column() -> None:
    assert [name for name in columns(False) if LABEL in name] == []
