"""The report around the results: how a run ended, its cost and machine, the runs before it."""

from __future__ import annotations

import pytest

from ipa_core.reporting.charts import PastRun
from ipa_core.reporting.report import render_results
from ipa_core.reporting.run_record import RunRecord, render_report
from tests.evaluation.material import report_data, run_record, stage_line
from tests.reporting.test_report import Page


class Words(Page):
    """Puts a space between two cells."""

    def handle_data(self, data: str) -> None:
        super().handle_data(f"{data} ")


def words(record: RunRecord, results: str | None = None) -> str:
    return " ".join(Words(render_report(record, results)).text.split())


@pytest.mark.parametrize(
    "part",
    [
        "run 20260102-030405-abcd",
        "2026-01-02 03:04 UTC · 6 min · 16 cores, 1 x H200 · 2.500 GPU-hours (6.500 with cached work)",
        "· 1.000 CPU-hours Time and cost",
        "commit abcdef123456",
        "clips 8 3 5 1 0 60.0 1.250 0.500 3.250 0.500",
        "together 120.0 2.500 1.000 6.500 1.000",
        "phone.mp4 whole clips no pictures in the file",
    ],
)
def test_it_tells_of_the_run(part: str) -> None:
    assert part in words(run_record())


def test_a_whole_success_needs_no_word() -> None:
    assert run_record().ending is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"state": "nothing_new"}, "Nothing new: every result was in the store."),
        ({"all_stages": ("clips", "poses", "candidates")}, "This run went up to poses, as asked: 2 of 3 stages."),
        (
            {"state": "failed", "error": "no pose was found in 8 clips"},
            "This run failed in poses: no pose was found in 8 clips.",
        ),
        ({"state": "stopped", "error": "stopped by Ctrl-C"}, "This run was stopped in poses: stopped by Ctrl-C."),
        (
            {"state": "killed", "under_way": "candidates 2/8 (25 %), about 30 s left"},
            "This run was killed in candidates 2/8 (25 %), about 30 s left.",
        ),
    ],
)
def test_any_other_end_is_told_first(changes: dict[str, object], sentence: str) -> None:
    record = run_record(**changes)
    assert sentence == record.ending
    text = words(record, render_results(report_data()))
    assert text.index(sentence) < text.index("Hands, aligned against base: better")


def test_a_failed_runs_title_and_heading_say_so() -> None:
    record = run_record(state="failed", error="no pose was found")
    assert words(record).startswith("demo: failed · IPA report · 20260102-030405-abcd")
    assert "Implicit Preference Alignment · run 20260102-030405-abcd demo: failed" in words(record)


def test_stages_that_were_not_reached_are_named() -> None:
    record = run_record(
        state="failed", error="no pose was found", all_stages=("clips", "poses", "candidates", "scores")
    )
    assert "Not reached: candidates, scores." in words(record)


def test_hours_of_unknown_devices_are_told_apart() -> None:
    line = stage_line("clips", cached_hours={"unrecorded": 4.0})
    assert "did not record their device: 4.000 hours more." in words(run_record(stages=(line,)))


def past(run: str, **changed: object) -> PastRun:
    return PastRun(**({"run": run, "state": "completed", "scores": (0.25, 0.5), "psnr_hand": (18.0, 19.0)} | changed))


def test_the_runs_before_are_shown_with_a_chart() -> None:
    before = past("20260101-000000-0000", state="failed", scores=None, psnr_hand=None, candidates=8, kept=2)
    record = run_record(past=(past("20260102-030405-abcd", candidates=8, kept=4, strict_pairs=1), before))
    text = words(record)
    assert "20260102-030405-abcd (this) completed 0.250 0.500 +0.250 18.00 19.00 8 4 1" in text
    assert "20260101-000000-0000 failed – – – – – 8 2 –" in text
    assert "img" in Page(render_report(record, None)).tags


def test_the_first_run_has_no_chart() -> None:
    page = Page(render_report(run_record(past=(past("20260102-030405-abcd"),)), None))
    assert "img" not in page.tags
