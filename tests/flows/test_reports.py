"""The report of a run, however it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.engine.run import Run
from flows.engine.run_folder import RunFolder
from flows.engine.stage import RunStopped
from flows.engine.stop import Stopped
from flows.engine.walk import Scope
from flows.retrain import finished
from flows.stages import STAGES
from ipa_core.video import encode_video
from storage import Store
from storage.damage import sealed_text
from storage.folders import write_whole
from tests.fakes import FAKES, fake_config, write_videos
from tests.flows.conftest import whole_run
from tests.flows.test_cli import call
from tests.flows.test_status import under_way


def report(store: Path, run_id: str) -> str:
    return (store / "runs" / run_id / "report.html").read_text()


def test_a_whole_run_tells_its_clips_films_and_cost(folder: Path) -> None:
    summary = whole_run(fake_config(folder))
    html = report(folder / "store", summary.run_id)
    assert summary.outputs["report"] == str(folder / "store" / "runs" / summary.run_id / "report.html")
    assert 'src="data:video/mp4;base64,' in html and "held-out clips, one by one" in html
    assert "PSNR-Hand in dB, base" in html and " CPU-hours" in html
    assert f"{summary.run_id} (this)" in html


def test_results_are_rendered_once(folder: Path) -> None:
    first = whole_run(fake_config(folder))
    [kept] = (folder / "store" / "reports").glob("*.page")
    kept.write_bytes(sealed_text("<p>kept</p>"))
    kept.with_suffix(".run").unlink()  # Else the second run shows the first one's report.
    second = whole_run(fake_config(folder))
    html = report(folder / "store", second.run_id)
    assert "<p>kept</p>" in html and first.run_id in html


def test_previews_are_shown_by_step(folder: Path) -> None:
    """The second one is broken; it costs the report nothing."""
    whole_run(fake_config(folder))
    [key] = (path.stem for path in (folder / "store" / "actions" / "finetune").rglob("*.json"))
    for name, data in {
        "step-000002-clip.mp4": video(),
        "step-000010-clip.mp4": video(),
        "step-000002-other.mp4": b"cut",
    }.items():
        write_whole(folder / "store" / "previews" / key / name, data)
    html = report(folder / "store", whole_run(fake_config(folder)).run_id)
    assert "clip, held out, from the same noise" in html and "<span>2</span><span>10</span>" in html
    assert "other, held out" not in html


def video() -> bytes:
    return encode_video(np.zeros((2, 32, 32, 3), np.uint8), 8)


def test_a_run_up_to_a_stage_says_so(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 1)
    summary = whole_run(fake_config(tmp_path), Scope(last="clips"))
    assert f"This run went up to clips, as asked: 1 of {len(STAGES)} stages." in report(
        tmp_path / "store", summary.run_id
    )


def test_a_failed_run_shows_why_and_what_it_had(folder: Path) -> None:
    summary = whole_run(fake_config(folder, selection__threshold=1.0))
    html = report(folder / "store", summary.run_id)
    assert "<h1>fake: failed</h1>" in html
    assert "This run failed in selection: none of " in html and "selection.threshold is 1.0" in html
    assert "Why candidates were not kept" in html
    assert summary.outputs["report"].endswith("report.html")


def test_a_failed_runs_report_names_dropped_inputs(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"no video")
    summary = whole_run(fake_config(tmp_path))
    html = report(tmp_path / "store", summary.run_id)
    assert summary.status == "failed" and "<td>a.mp4</td><td>whole</td><td>clips</td>" in html
    assert "Not reached: poses, " in html


def test_a_report_that_fails_does_not_hide_why_the_run_did(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise ValueError("a bug in the report")

    monkeypatch.setattr("flows.outcomes.report.render_results", broken)
    with (
        Run(fake_config(folder), STAGES, FAKES, quiet=True) as run,
        pytest.raises(ValueError, match="a bug"),
        finished(run),
    ):
        run.walk()
    assert "This run failed" in report(folder / "store", run.folder.run_id)


def test_a_stopped_run_has_its_record_before_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_videos(tmp_path / "videos", 1)
    run = Run(fake_config(tmp_path), STAGES, FAKES, Scope(last="clips"), quiet=True)
    seen: list[object] = []

    def stopped(self: Run) -> None:
        raise Stopped(15)

    monkeypatch.setattr(Run, "walk", stopped)
    monkeypatch.setattr("flows.outcomes.report.run_record", lambda *_: seen.append(run.folder.summary()))
    with pytest.raises(Stopped), run, finished(run):
        run.walk()
    assert [about["status"] for about in seen] == ["stopped"]  # type: ignore[index]


def test_the_command_says_that_the_run_failed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = whole_run(fake_config(folder, selection__threshold=1.0))
    monkeypatch.setenv("IPA_HOME", str(folder / "store"))
    code, out, err = call(monkeypatch, capsys, "report", "--json")
    about = json.loads(out)
    assert (code, about["run_id"], about["state"]) == (0, summary.run_id, "failed")
    assert err.startswith(f"run {summary.run_id}: failed: none of ")


def test_a_killed_run_gets_a_report_from_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = under_way(tmp_path, process=gone.pid)
    monkeypatch.setenv("IPA_HOME", str(tmp_path / "store"))
    code, out, err = call(monkeypatch, capsys, "report", run.run_id)
    assert (code, Path(out.strip()).name) == (0, "report.html")
    assert f"run {run.run_id}: killed" in err
    assert "This run was killed in poses 2/8 (25 %), about 30 s left of this stage." in report(
        tmp_path / "store", run.run_id
    )


def test_a_run_that_goes_on_has_no_report_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = under_way(tmp_path)
    monkeypatch.setenv("IPA_HOME", str(tmp_path / "store"))
    code, _, err = call(monkeypatch, capsys, "report", run.run_id)
    assert (code, "goes on; its report comes at its end" in err) == (1, True)


def test_a_run_of_an_older_version_gets_a_report_from_its_record(tmp_path: Path) -> None:
    from flows.outcomes.report import report_of

    store = Store(tmp_path / "store")
    run = RunFolder.new(store)
    run.write_config(fake_config(tmp_path))
    table = {"name": "clips", "items": 8, "cached": 0, "computed": 8, "rejected": 0, "failed": 8, "seconds": 1.0}
    old = {"run_id": run.run_id, "status": "failed", "stages": [table], "outputs": {}, "error": "no", "dropped": []}
    run.write_json("run.json", old)
    path, state = report_of(run, store)
    assert state.state == "failed" and "This run failed in clips: no." in path.read_text()


def test_a_bug_in_the_results_of_a_failed_run_costs_only_the_results(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise RunStopped("an object is lost")

    monkeypatch.setattr("flows.outcomes.report.render_results", broken)
    summary = whole_run(fake_config(folder, selection__threshold=1.0))
    assert "This run failed in selection: none of " in report(folder / "store", summary.run_id)
