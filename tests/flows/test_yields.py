"""The yield over a store's runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli.use import yield_table
from flows.engine.run_folder import RunFolder, runs
from flows.outcomes.yields import past_runs, run_yields
from flows.stages.selection import yield_of
from ipa_core.evaluation import Comparison
from storage import Store
from tests.fakes import fake_config
from tests.flows.conftest import run_fake
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


def test_a_run_that_goes_on_has_not_counted_who_was_stopped(folder: Path) -> None:
    rerun(folder)
    store = Store(folder / "store")
    newest = next(runs(store))
    (folder / "store" / "runs" / newest.run_id / "run.json").unlink()

    found = run_yields(store)[0]
    assert (found.run, found.left_out) == (newest.run_id, None)
    assert yield_table([found]).splitlines()[1].split()[2:4] == ["?", "?"]


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


def test_a_run_is_seen_with_those_before_it_of_its_config(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    names = ("fake", "other", "fake", "fake", "fake")
    folders = [RunFolder(store, f"2026010{day}-000000-0000") for day in range(1, 6)]
    for folder, name in zip(folders, names, strict=True):
        folder.write_config(fake_config(tmp_path).model_copy(update={"name": name}))
    folders[2].mark_experiment()
    found = past_runs(store, folders[3], "failed")
    assert [(one.run, one.state) for one in found] == [(folders[3].run_id, "failed"), (folders[0].run_id, "silent")]


def test_a_run_is_seen_with_its_scores_and_yield(folder: Path) -> None:
    done = run_fake(fake_config(folder))
    [one, *_] = past_runs(done.store, done.run.folder, "completed")
    hand_score = Comparison.model_validate(done.results.done("evaluation")[-1][1].record).metrics[0]
    assert one.scores == (hand_score.base, hand_score.aligned)
    assert one.kept == yield_of(done.one("selection")[1]).kept
