"""What is told of runs that go on, were killed, or have ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.engine.progress import StageProgress
from flows.engine.run_folder import RunFolder
from flows.engine.stats import run_stats
from flows.engine.status import SILENCE, RunState, last_runs, run_state
from flows.engine.summary import RunProgress, StageTable
from flows.engine.walk import Scope
from ipa_core.reporting.reasons import without_numbers
from storage import Store
from tests.fakes import fake_config, write_videos
from tests.flows.conftest import whole_run
from tests.flows.test_cli import call

CLIPS = StageTable("clips", items=8, cached=0, computed=8, rejected=0, failed=0, seconds=1.0)
POSES = StageProgress("poses", cached=0, misses=8, done=2, failed=0, share=0.25, seconds_left=30.0)


def under_way(folder: Path, **about: object) -> RunFolder:
    run = RunFolder.new(Store(folder / "store"))
    run.write_config(fake_config(folder))
    run.write_progress(RunProgress((CLIPS,), POSES, None, **about))  # type: ignore[arg-type]
    return run


def test_a_run_under_way_tells_its_stage_and_the_time_left(tmp_path: Path) -> None:
    state = run_state(under_way(tmp_path))
    assert (state.state, state.stages) == ("running", (CLIPS,))
    assert state.sentence().startswith("poses      2/8 (25 %), about 30 s left of this stage (")


def test_a_run_whose_process_is_gone_was_killed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert run_state(under_way(tmp_path, process=gone.pid)).state == "killed"


@pytest.mark.parametrize(("age", "state"), [(SILENCE / 2, "running"), (SILENCE * 2, "silent")])
def test_a_run_elsewhere_that_tells_nothing_for_long_is_silent(age: float, state: str, tmp_path: Path) -> None:
    assert run_state(under_way(tmp_path, host="elsewhere", at=time.time() - age)).state == state


def test_a_run_that_ended_tells_how(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 1)
    whole_run(fake_config(tmp_path), Scope(last="poses"))
    write_videos(tmp_path / "videos", 2)
    whole_run(fake_config(tmp_path), Scope(first="poses"))
    failed, completed = last_runs(Store(tmp_path / "store"), 2)
    assert (completed.state, completed.progress) == ("completed", None)
    assert failed.state == "failed" and "items of clips are not in the store" in failed.sentence()


def test_the_newest_run_comes_first_and_no_more_than_asked_for(tmp_path: Path) -> None:
    runs = [under_way(tmp_path) for _ in range(3)]
    newest = max(run.run_id for run in runs)
    assert [state.run_id for state in last_runs(Store(tmp_path / "store"), 1)] == [newest]
    assert os.getpid() == last_runs(Store(tmp_path / "store"), 1)[0].progress.process  # type: ignore[union-attr]


def test_a_runs_status_counts_what_was_dropped_by_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_videos(tmp_path / "videos", 1)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "videos" / name).write_bytes(b"no video " + name.encode())
    summary = whole_run(fake_config(tmp_path), Scope(last="poses"))
    monkeypatch.setenv("IPA_HOME", str(tmp_path / "store"))
    code, out, _ = call(monkeypatch, capsys, "status", summary.run_id)
    [row] = [line.split() for line in out.splitlines() if "a.mp4" in line or "b.mp4" in line]
    reason = summary.dropped[0].reason
    assert (code, row[:2], " ".join(row[3:])) == (0, ["clips", "2"], without_numbers(reason))


def test_an_empty_stores_address_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IPA_HOME", str(Store(tmp_path / "store").address))
    said = f"the store at {tmp_path / 'store'} has no run yet\n"
    assert call(monkeypatch, capsys, "status") == (0, "", said)
    assert call(monkeypatch, capsys, "status", "--stats") == (0, "", said)
    assert call(monkeypatch, capsys, "report") == (1, "", f"ipa: {said}")


def ended(state: str, *stages: StageTable, seconds: float | None = 60.0, queued: float | None = None) -> RunState:
    return RunState(f"2026-{state}", "demo", state, stages, None, None, {}, 0, seconds=seconds, queued=queued)


def test_the_failure_rate_is_of_the_runs_that_ended() -> None:
    stats = run_stats(
        [ended(state) for state in ("running", "completed", "nothing_new", "failed", "killed", "stopped")]
    )
    assert (stats.runs, stats.states["failed"], stats.failure_rate) == (6, 1, 0.4)


def test_without_a_run_that_ended_there_is_no_failure_rate() -> None:
    assert (run_stats([ended("running")]).failure_rate, run_stats([]).failure_rate) == (None, None)


def test_queue_times_are_of_runs_with_a_schedule() -> None:
    stats = run_stats([ended("completed", queued=wait) for wait in (10.0, None, 30.0)])
    assert (stats.queue_seconds, stats.longest_queue_seconds, stats.queue_known) == (20.0, 30.0, 2)
    assert run_stats([ended("completed")]).queue_seconds is None


def test_hours_are_summed_by_stage() -> None:
    first = StageTable("clips", 8, 0, 8, 0, 1, 60.0, hours={"cpu": 0.5}, cached_hours={"gpu": 9.0})
    second = StageTable("clips", 8, 4, 4, 0, 0, 30.0, hours={"cpu": 0.25})
    trained = StageTable("finetune", 1, 0, 1, 0, 0, 90.0, hours={"gpu": 2.0})
    stats = run_stats([ended("completed", second, trained), ended("failed", first), ended("completed", seconds=None)])
    assert [stage.row() for stage in stats.stages] == [
        ("clips", "2", "16", "12", "1", "0.000", "0.750", "2 min"),
        ("finetune", "1", "1", "1", "0", "2.000", "0.000", "2 min"),
    ]
    assert stats.unmeasured == 1


def test_the_statistics_as_a_table_and_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_videos(tmp_path / "videos", 1)
    whole_run(fake_config(tmp_path), Scope(last="clips"))
    monkeypatch.setenv("IPA_HOME", str(tmp_path / "store"))
    _, out, _ = call(monkeypatch, capsys, "status", "--stats")
    assert "failure rate: 0%" in out and "queue time: unknown" in out
    assert out.splitlines()[-1].split()[:5] == ["clips", "1", "1", "1", "0"]
    _, out, _ = call(monkeypatch, capsys, "status", "--stats", "--json")
    about = json.loads(out)
    assert (about["states"], about["stages"][0]["name"]) == ({"completed": 1}, "clips")
    assert about["stages"][0]["cpu_hours"] > 0
