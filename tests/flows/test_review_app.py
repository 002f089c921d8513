"""The review page's server: what it serves, to whom, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from flows.review.app import review_app
from flows.review.pictures import NAMES
from flows.review.queue import Queue
from flows.review.server import refusal
from flows.review.session import Session
from storage import Store
from storage.reviews import Reviews
from tests.flows.test_review import queue_of


@pytest.fixture
def queue(folder: Path) -> Queue:
    return queue_of(folder)


@pytest.fixture
def page(folder: Path, queue: Queue) -> Iterator[TestClient]:
    with TestClient(review_app(Session(Store(folder / "store"), queue, "anna")), "http://127.0.0.1:8765") as client:
        yield client


@pytest.mark.parametrize(
    ("host", "origin", "answered"),
    [
        ("127.0.0.1:8765", None, True),
        ("localhost:9000", "http://localhost:9000", True),  # through a tunnel
        ("[::1]:8765", None, True),
        (None, None, False),
        ("", None, False),
        ("evil.example:8765", None, False),
        ("127.0.0.1.evil.example", None, False),
        ("[", None, False),
        ("127.0.0.1:8765", "http://evil.example", False),
        ("127.0.0.1:8765", "http://127.0.0.1:3000", False),
        ("127.0.0.1:8765", "https://127.0.0.1:8765", False),
        ("127.0.0.1:8765", "null", False),
    ],
)
def test_only_this_page_is_answered(host: str | None, origin: str | None, answered: bool) -> None:
    assert (refusal(host, origin) is None) == answered


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}])
def test_foreign_requests_change_nothing(page: TestClient, folder: Path, queue: Queue, headers: dict[str, str]) -> None:
    said = {"candidate": queue.candidates[0].candidate.video, "answer": "accept"}
    assert page.post("/api/reviews", json=said, headers=headers).status_code == 403
    assert page.get("/api/run", headers=headers).status_code == 403
    assert Reviews(folder / "store").histories() == {}


def test_a_decision_sent_as_a_plain_form_is_refused(page: TestClient, queue: Queue) -> None:
    body = f'{{"candidate": "{queue.candidates[0].candidate.video}", "answer": "accept"}}'
    assert page.post("/api/reviews", content=body, headers={"content-type": "text/plain"}).status_code == 422


def test_the_page_asks_for_nothing_from_elsewhere(page: TestClient) -> None:
    texts = [page.get(name).text for name in ("/", "/page.js", "/dom.js", "/list.js", "/player.js", "/page.css")]
    assert all(texts)
    assert not any("//" in line.replace("// ", "") for text in texts for line in text.splitlines())
    assert "default-src 'self'" in page.get("/").headers["content-security-policy"]


def test_a_decision_is_in_the_store_with_who_and_when(page: TestClient, folder: Path, queue: Queue) -> None:
    video = queue.candidates[0].candidate.video
    answer = page.post("/api/reviews", json={"candidate": video, "answer": "reject"}).json()
    [review] = Reviews(folder / "store").history(video)
    assert (review.verdict, review.by) == ("reject", "anna")
    assert (answer["rejected"], answer["row"]["answer"]) == (1, "reject")
    assert page.get("/api/candidates/0").json()["reviews"] == [{"by": "anna", "answer": "reject", "at": review.at}]


def test_unsure_is_no_decision_and_not_undecided(page: TestClient, queue: Queue) -> None:
    page.post("/api/reviews", json={"candidate": queue.candidates[0].candidate.video, "answer": "unsure"})
    about = page.get("/api/run").json()
    assert (about["accepted"], about["rejected"], about["unsure"]) == (0, 0, 1)
    assert 0 not in page.get("/api/order?show=undecided").json()
    assert page.get("/api/order?show=unsure").json() == [0]


def test_undoing_leaves_nothing_decided(page: TestClient, queue: Queue) -> None:
    video = queue.candidates[0].candidate.video
    for verdict in ("reject", None):
        page.post("/api/reviews", json={"candidate": video, "answer": verdict})
    assert page.get("/api/candidates/0").json()["answer"] is None
    assert page.get("/api/order?show=undecided").json() == list(range(len(queue.candidates)))


def test_what_others_decide_is_seen_after_a_reload(page: TestClient, folder: Path, queue: Queue) -> None:
    page.get("/api/run")
    Session(Store(folder / "store"), queue, "ben").decide(queue.candidates[0].candidate.video, "accept")
    assert page.get("/api/run").json()["accepted"] == 1
    assert [review["by"] for review in page.get("/api/candidates/0").json()["reviews"]] == ["ben"]


def test_rows_come_in_pages(page: TestClient, queue: Queue) -> None:
    rows = page.get("/api/candidates?offset=2&limit=3").json()
    assert [row["video"] for row in rows] == [one.candidate.video for one in queue.candidates[2:5]]
    assert page.get("/api/candidates?offset=0&limit=5000").status_code == 422


def test_a_candidate_comes_with_its_clip(page: TestClient, queue: Queue) -> None:
    about = page.get("/api/candidates/0").json()
    assert about["reason"] == queue.candidates[0].decision.reason
    assert len(about["clip"]) == 2
    assert 0 in {row["index"] for row in about["clip"]}


def test_what_a_candidate_shows_is_served(page: TestClient) -> None:
    about = page.get("/api/candidates/0").json()
    for digest in (about["video"], about["driving"]):
        assert page.get(f"/video/{digest}").headers["content-type"] == "video/mp4"
    assert page.get(f"/video/{about['video']}", headers={"range": "bytes=0-9"}).status_code == 206
    assert len(page.get(f"/pose/{about['pose']}").json()["frames"]) == 5
    for name in NAMES:
        assert page.get(f"/picture/{about['video']}/{name}").headers["content-type"] == "image/jpeg"


def test_objects_that_are_not_of_the_run_are_not_served(page: TestClient, folder: Path, queue: Queue) -> None:
    store = Store(folder / "store")
    other = store.objects.put(b"not of this run")
    latents = queue.candidates[0].candidate.latents
    for digest in (other, latents, "x", "../../ipa-store.json"):
        for place in ("/video/{}", "/pose/{}", "/picture/{}/hands.jpg"):
            assert page.get(place.format(digest)).status_code == 404


def test_a_decision_about_another_candidate_is_refused(page: TestClient) -> None:
    answer = page.post("/api/reviews", json={"candidate": "ab" * 32, "answer": "accept"})
    assert (answer.status_code, "has no candidate" in answer.json()["detail"]) == (404, True)


OPINIONS = {"reason", "reviews", "components", "good_frames", "scorable", "worst"}


def test_a_blind_reviewer_sees_no_opinion_before_their_own(folder: Path, queue: Queue) -> None:
    store, video = Store(folder / "store"), queue.candidates[0].candidate.video
    Session(store, queue, "ben").decide(video, "reject")
    with TestClient(review_app(Session(store, queue, "anna", blind=True)), "http://127.0.0.1:8765") as page:
        hidden = page.get("/api/candidates/0").json()
        assert not OPINIONS & hidden.keys()
        assert (hidden["score"], hidden["kept"], hidden["answer"]) == (None, None, None)
        assert all(row["score"] is None for row in [*hidden["clip"], *page.get("/api/candidates").json()])
        page.post("/api/reviews", json={"candidate": video, "answer": "accept"})
        shown = page.get("/api/candidates/0").json()
    assert (shown["score"], shown["answer"]) == (queue.candidates[0].score.score, "accept")
    assert {review["by"]: review["answer"] for review in shown["reviews"]} == {"anna": "accept", "ben": "reject"}


def test_a_blind_reviewers_filters_tell_no_opinion(folder: Path, queue: Queue) -> None:
    store = Store(folder / "store")
    for by, answer in (("ben", "reject"), ("eva", "accept"), ("ute", "unsure")):
        Session(store, queue, by).decide(queue.candidates[0].candidate.video, answer)  # type: ignore[arg-type]
    with TestClient(review_app(Session(store, queue, "anna", blind=True)), "http://127.0.0.1:8765") as page:
        found = [page.get(f"/api/order?{asked}").json() for asked in ("show=differ", "show=unsure", "by=ben")]
        assert found == [[], [], []]
        assert 0 in page.get("/api/order?show=undecided").json()


def test_the_page_tells_how_far_reviewers_agree(page: TestClient, folder: Path, queue: Queue) -> None:
    for by, answers in (("ben", ("accept", "reject")), ("eva", ("accept", "accept"))):
        for one, answer in zip(queue.candidates, answers, strict=False):
            Session(Store(folder / "store"), queue, by).decide(one.candidate.video, answer)  # type: ignore[arg-type]
    about = page.get("/api/run").json()
    assert about["agreements"] == [{"first": "ben", "second": "eva", "common": 2, "agreed": 1, "kappa": 0.0}]
    assert about["reviewers"] == ["ben", "eva"]


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/app.py", "/api/candidates/999", "/api/candidates/-1"])
def test_there_is_nothing_else(page: TestClient, path: str) -> None:
    assert page.get(path).status_code == 404


def test_a_missing_video_is_one_sentence(page: TestClient, folder: Path, queue: Queue) -> None:
    video = queue.candidates[0].candidate.video
    Store(folder / "store").objects.delete(video)
    answer = page.get(f"/video/{video}")
    assert (answer.status_code, answer.json()) == (404, {"detail": f"object {video} is not in the store"})
