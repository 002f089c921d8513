"""`ipa review`, its export and import as commands."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from flows.engine.run_folder import RunFolder
from flows.review.server import HOST
from storage import Store
from storage.reviews import Reviews
from tests.flows.test_cli import call
from tests.flows.test_review import queue_of, say

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IPA_HOME", str(folder / "store"))
    return folder


def test_a_run_may_follow_the_command_directly(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    code, _, err = call(monkeypatch, capsys, "review", "nowhere")
    assert (code, err) == (1, "ipa: there is no run nowhere; `ipa status` lists the last ones\n")


def test_a_run_may_be_named_by_its_config(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    run_id = queue_of(home).run_id
    name = RunFolder(Store(home / "store"), run_id).name
    code, out, _ = call(monkeypatch, capsys, "review", "agreement", name)
    assert (code, out.startswith(f"run {run_id}: no two people")) == (0, True)


def test_a_port_that_is_taken_is_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    queue_of(home)
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, _, err = call(monkeypatch, capsys, "review", "--port", port)
    assert (code, err) == (
        1,
        f"ipa: can't listen on {HOST}:{port} (Address already in use); name another with --port\n",
    )


def test_an_empty_name_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    queue_of(home)
    code, _, err = call(monkeypatch, capsys, "review", "--by", " ")
    assert (code, err) == (1, "ipa: --by is empty: name the reviewer, who is kept with each review\n")


def test_export_and_import(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    queue = queue_of(home)
    video = queue.candidates[0].candidate.video
    say(home, video, "accept")
    file, videos = home / "decisions.csv", home / "videos for others"
    code, out, _ = call(
        monkeypatch, capsys, "review", "export", queue.run_id, "--to", str(file), "--videos", str(videos), "--json"
    )
    assert (code, json.loads(out)["decided"]) == (0, 1)
    assert (videos / f"{video}.mp4").exists()
    monkeypatch.setenv("IPA_HOME", str(home / "other"))
    code, out, _ = call(monkeypatch, capsys, "review", "import", str(file))
    assert (code, out) == (0, "1 reviews, 1 of them new\n")
    assert Reviews(home / "other").history(video)[-1].by == "anna"


def test_agreement_is_a_table(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    queue = queue_of(home)
    for one, (anna, ben) in zip(queue.candidates, (("accept", "accept"), ("reject", "accept")), strict=False):
        say(home, one.candidate.video, anna)  # type: ignore[arg-type]
        say(home, one.candidate.video, ben, by="ben")  # type: ignore[arg-type]
    code, out, _ = call(monkeypatch, capsys, "review", "agreement")
    assert (code, [line.split() for line in out.splitlines()]) == (
        0,
        [["reviewer", "and", "common", "agreed", "kappa"], ["anna", "ben", "2", "1", "0.00"]],
    )


def test_agreement_without_two_reviewers_says_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    queue_of(home)
    code, out, _ = call(monkeypatch, capsys, "review", "agreement")
    assert (code, "`ipa review --blind`" in out) == (0, True)
