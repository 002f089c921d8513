"""The blind comparison: what its server tells, what it keeps, and what reports and cards say of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flows.engine.run_folder import RunFolder
from flows.review.compare import Comparing, open_pairs
from flows.review.compare_app import compare_app, padded
from ipa_core.config import ConfigError
from ipa_core.video import decode_video
from storage import Store
from storage.preferences import Preferences
from tests.fakes import fake_config
from tests.flows.conftest import run_fake, whole_run
from tests.flows.test_cli import call

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def comparing(folder: Path) -> Comparing:
    done = run_fake(fake_config(folder))
    record = RunFolder.new(done.store)
    record.write_config(fake_config(folder))
    record.write_items(done.results)
    return Comparing(done.store, open_pairs(done.store, None), "anna")


@pytest.fixture
def page(comparing: Comparing, tmp_path: Path) -> Iterator[TestClient]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with TestClient(compare_app(comparing, scratch), "http://127.0.0.1:8765") as client:
        yield client


def test_a_pair_is_base_and_aligned_of_one_clip_and_seed(comparing: Comparing) -> None:
    store = comparing.store
    for one in comparing.questions:
        assert {one.left, one.right} == {one.pair.base, one.pair.aligned}
        assert decode_video(store.objects.get(one.left)).shape == decode_video(store.objects.get(one.right)).shape
    assert len(comparing.questions) == len({one.pair.clip_id for one in comparing.questions}) > 1


def test_sides_and_order_stay_after_a_restart(comparing: Comparing) -> None:
    again = Comparing(comparing.store, open_pairs(comparing.store, None), "anna")
    assert again.questions == comparing.questions


def test_sides_are_drawn_for_each_person(comparing: Comparing) -> None:
    pairs = open_pairs(comparing.store, None)
    seen = {
        one.left == one.pair.base
        for name in ("ben", "carla", "dora", "emil", "fritz", "gerd", "hanna")
        for one in Comparing(comparing.store, pairs, name).questions
    }
    assert seen == {True, False}


def test_nothing_that_is_sent_holds_a_digest_or_a_time(page: TestClient, comparing: Comparing, folder: Path) -> None:
    sent = [page.get(place) for place in ("/", "/compare.js", "/api/run")]
    for index, one in enumerate(comparing.questions):
        sent.append(page.get(f"/api/questions/{index}"))
        for kind, token in one.tokens.items():
            sent += (
                [page.get(f"/pose/{token}")]
                if kind == "pose"
                else [page.get(f"/video/{token}"), page.get(f"/picture/{token}/hands.jpg")]
            )
    assert {answer.status_code for answer in sent} == {200}
    told = "".join(f"{answer.url}{dict(answer.headers)}{answer.content!r}" for answer in sent)
    for one in comparing.questions:
        for secret in (one.pair.base, one.pair.aligned, one.pair.driving, one.pair.digest):
            assert secret not in told
    times = {answer.headers["last-modified"] for answer in sent if "/video/" in str(answer.url)}
    assert times == {"Thu, 01 Jan 1970 00:00:00 GMT"}


def test_both_videos_of_a_pair_have_one_size(page: TestClient, comparing: Comparing) -> None:
    for one in comparing.questions:
        left, right = (page.get(f"/video/{one.tokens[side]}") for side in ("left", "right"))
        assert len(left.content) == len(right.content)
        assert (decode_video(left.content) == decode_video(comparing.store.objects.get(one.left))).all()
        ranged = page.get(f"/video/{one.tokens['left']}", headers={"range": "bytes=0-9"})
        assert ranged.status_code == 206


def test_a_padded_video_ends_with_a_whole_box() -> None:
    assert padded(b"video", 14) == b"video\x00\x00\x00\x09free\x00"


def test_an_answer_is_kept_with_who_when_and_what_was_seen(page: TestClient, comparing: Comparing) -> None:
    one = comparing.questions[0]
    answers = page.post("/api/preferences", json={"question": one.tokens["left"], "answer": "right"}).json()
    assert answers == ["right"] + [None] * (len(comparing.questions) - 1)
    [said] = Preferences(comparing.store.address).history(one.pair.digest)
    assert (said.left, said.right, said.answer, said.by, said.video) == (
        one.left,
        one.right,
        "right",
        "anna",
        one.right,
    )


def test_a_later_answer_replaces_and_undo_takes_back(page: TestClient, comparing: Comparing) -> None:
    token = comparing.questions[0].tokens["left"]
    given = [page.post("/api/preferences", json={"question": token, "answer": said}).json()[0]
             for said in ("left", "same", None)]  # fmt: skip
    assert given == ["left", "same", None]
    assert len(Preferences(comparing.store.address).history(comparing.questions[0].pair.digest)) == 3


def test_answers_of_others_are_not_told(page: TestClient, comparing: Comparing) -> None:
    ben = Comparing(comparing.store, open_pairs(comparing.store, None), "ben")
    ben.say(ben.questions[0], "left")
    assert set(page.get("/api/run").json()["answers"]) == {None}


@pytest.mark.parametrize("place", ["/video/{}", "/pose/{}", "/picture/{}/hands.jpg"])
def test_digests_are_no_addresses(page: TestClient, comparing: Comparing, place: str) -> None:
    assert page.get(place.format(comparing.questions[0].pair.aligned)).status_code == 404


def test_foreign_requests_are_refused(page: TestClient, comparing: Comparing) -> None:
    said = {"question": comparing.questions[0].tokens["left"], "answer": "left"}
    assert page.post("/api/preferences", json=said, headers={"origin": "http://evil.example"}).status_code == 403
    assert Preferences(comparing.store.address).histories() == {}


def test_a_run_without_an_evaluation_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^run nowhere has no videos of base and aligned model to compare"):
        open_pairs(Store(tmp_path), RunFolder(Store(tmp_path), "nowhere"))


@pytest.mark.slow
def test_the_next_report_and_card_say_the_win_rate(
    comparing: Comparing, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = whole_run(fake_config(folder))
    for one in comparing.questions:
        comparing.say(one, "left" if one.left == one.pair.aligned else "right")
    summary = whole_run(fake_config(folder))
    count = len(comparing.questions)
    sentence = (
        f"anna preferred the aligned model in 100.0% (95 % interval {0.025 ** (1 / count):.1%} to 100.0%) of {count} "
        f"blind comparisons of {count} held-out clips: {count} for it, 0 for base, 0 without a difference"
    )
    assert sentence in Path(summary.outputs["report"]).read_text()
    assert sentence in (Path(summary.outputs["lora"]) / "README.md").read_text()
    assert "Blind comparison" not in Path(before.outputs["report"]).read_text()
    monkeypatch.setenv("IPA_HOME", str(comparing.store.address))
    code, out, _ = call(monkeypatch, capsys, "review", "preferences", "--json")
    [row] = json.loads(out)["preferences"]
    assert (code, row["by"], row["win_rate"], row["judgements"]) == (0, "anna", 1.0, count)
