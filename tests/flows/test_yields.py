"""The yield over a store's runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli.use import yield_table
from flows.engine.run_folder import RunFolder
from flows.outcomes.yields import run_yields
from storage import Store
from tests.flows.test_cli import call
from tests.flows.test_review import decided, first_kept, queue_of, rerun, say


def test_every_run_that_came_to_its_selection(folder: Path) -> None:
    queue = queue_of(folder)
    before = {entry.run: entry.report.kept for entry in run_yields(Store(folder / "store"))}
    assert before[queue.run_id] == sum(one.decision.kept for one in queue.candidates)
    RunFolder.new(Store(folder / "store"))  # one that did not come to its selection
    say(folder, queue.candidates[first_kept(queue)].candidate.video, "reject")
    kept = sum(one.kept for one in decided(rerun(folder)).values())
    after = {entry.run: entry.report.kept for entry in run_yields(Store(folder / "store"))}
    assert list(after) == sorted(after, reverse=True)  # the newest first
    assert sorted(after.values()) == sorted([*before.values(), kept])


def test_the_table_has_the_four_cases(folder: Path) -> None:
    rerun(folder)
    head, line, *_ = yield_table(run_yields(Store(folder / "store"))).splitlines()
    assert head.endswith("kept  1 both good  2 both bad  3 mixed  4 strict  clips with 4")
    assert line.split()[1] == "fake"


def test_json_and_a_chart(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rerun(folder)
    monkeypatch.setenv("IPA_HOME", str(folder / "store"))
    code, out, _ = call(monkeypatch, capsys, "yield", "--json", "--plot", str(folder / "yield.svg"))
    assert code == 0
    assert json.loads(out)[0]["report"]["candidates"] > 0
    assert (folder / "yield.svg").read_text().startswith("<?xml")


def test_a_store_without_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IPA_HOME", str(Store(tmp_path / "store").address))
    _, out, err = call(monkeypatch, capsys, "yield")
    assert (out, err) == ("", f"no run of the store at {tmp_path / 'store'} has come to its selection\n")
    code, _, err = call(monkeypatch, capsys, "yield", "--plot", str(tmp_path / "yield.svg"))
    assert (code, err) == (
        1,
        f"ipa: there is nothing to plot: no run of the store at {tmp_path / 'store'} has come to its selection\n",
    )
