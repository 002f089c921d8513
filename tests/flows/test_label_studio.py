"""A round trip through the real Label Studio.

LABEL_STUDIO=/path/to/label-studio pytest -m slow tests/flows/test_label_studio.py

Label Studio has an environment of its own: `python -m venv DIR && DIR/bin/pip install label-studio`
(tried with 1.23.2). The test serves it on loopback from an empty folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.review.exchange import export_reviews, import_reviews
from flows.review.label_studio import CONFIG, write_files
from flows.review.pictures import Pictures
from flows.review.queue import Queue
from flows.review.session import now
from storage import Store
from storage.reviews import Reviews, answers
from tests.flows.test_review import AT, queue_of, say

LABEL_STUDIO = os.environ.get("LABEL_STUDIO")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not LABEL_STUDIO, reason="needs LABEL_STUDIO=/path/to/label-studio, in an environment of its own"
    ),
]
PATIENCE = 600.0
"""Seconds until the server is there: it makes its tables first."""
ANNA, BEN = "anna@example.org", "ben@example.org"


class Studio:
    """A server of Label Studio, with Anna as its first user."""

    def __init__(self, folder: Path, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        token = secrets.token_hex(20)
        self.anna = httpx.Client(base_url=self.address, headers={"Authorization": f"Token {token}"}, timeout=120)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.files),
            "LABEL_STUDIO_USERNAME": ANNA,
            "LABEL_STUDIO_PASSWORD": secrets.token_hex(8),
            "LABEL_STUDIO_USER_TOKEN": token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "COLLECT_ANALYTICS": "false",  # This and the rest: it asks for nothing from elsewhere.
            "LATEST_VERSION_CHECK": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
        }
        command = [str(LABEL_STUDIO), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
        with (folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=folder
            )

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, "Label Studio has ended; see server.log in the test's folder"
            assert time.monotonic() < deadline, f"Label Studio was not there within {PATIENCE:.0f} s"
            try:
                if self.anna.get("/health").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(1)

    def invited(self, address: str) -> httpx.Client:
        """Sign another user up, as a person does with an invitation."""
        client = httpx.Client(base_url=self.address, timeout=120)
        place = self.anna.get("/api/invite").json()["invite_url"]
        client.get(place)
        form = {"csrfmiddlewaretoken": client.cookies["csrftoken"], "email": address,
                "password": secrets.token_hex(8), "allow_newsletters": "false"}  # fmt: skip
        assert client.post(place, data=form, headers={"Referer": self.address}).status_code == 302
        client.headers.update({"X-CSRFToken": client.cookies["csrftoken"], "Referer": self.address})
        return client

    def project(self, tasks: Path, files: Path) -> int:
        """Make a project as docs/curation.md says. Return its number."""
        made = done(self.anna.post("/api/projects/", json={"title": "hands", "label_config": CONFIG.read_text()}))
        storage = {"project": made["id"], "path": str(files), "use_blob_urls": True}
        done(self.anna.post("/api/storages/localfiles", json=storage))
        done(self.anna.post(f"/api/projects/{made['id']}/import", json=json.loads(tasks.read_text())))
        return int(made["id"])

    def task(self, project: int, candidate: str) -> dict[str, Any]:
        tasks = done(self.anna.get(f"/api/projects/{project}/tasks/", params={"page_size": 100}))
        return next(task for task in tasks if task["data"]["candidate"] == candidate)

    def snapshot(self, project: int) -> bytes:
        """Export with whole authors, as docs/curation.md says."""
        options = {"serialization_options": {"annotations__completed_by": {"only_id": False}}}
        made = done(self.anna.post(f"/api/projects/{project}/exports/", json=options))
        place = f"/api/projects/{project}/exports/{made['id']}"
        while done(self.anna.get(place))["status"] != "completed":
            time.sleep(0.5)
        return self.anna.get(f"{place}/download", params={"exportType": "JSON"}).content


def done(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


def answer(client: httpx.Client, task: dict[str, Any], choice: str) -> None:
    result = {"from_name": "verdict", "to_name": "video", "type": "choices", "value": {"choices": [choice]}}
    done(client.post(f"/api/tasks/{task['id']}/annotations/", json={"result": [result], "lead_time": 2.5}))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Studio(tmp_path_factory.mktemp("label-studio"), port)
    try:
        found.wait()
        yield found
    finally:
        found.anna.close()
        found.process.terminate()
        found.process.wait()


@pytest.fixture(scope="module")
def annotated(studio: Studio, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Queue, int]:
    """A store's folder, its candidates, and the project where Anna and Ben answered to the second and the third. Carl
    reviewed the first here."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("store") / "run"))
    queue, store = queue_of(folder), Store(folder / "store")
    say(folder, queue.candidates[0].candidate.video, "accept", by="carl")
    export_reviews(store, queue, folder / "tasks.json", "shown")
    for one in queue.candidates:
        write_files(store, Pictures(store), one, studio.files / "shown")
    project = studio.project(folder / "tasks.json", studio.files / "shown")
    with closing(studio.invited(BEN)) as ben:
        for index, (first, second) in {1: ("accept", "reject"), 2: ("reject", "unsure")}.items():
            task = studio.task(project, queue.candidates[index].candidate.video)
            answer(studio.anna, task, first)
            answer(ben, task, second)
    return folder, queue, project


def test_tasks_show_videos_and_hands_and_preselect_nothing(studio: Studio, annotated: tuple[Path, Queue, int]) -> None:
    _, queue, project = annotated
    task = studio.task(project, queue.candidates[0].candidate.video)
    kinds = [studio.anna.get(task["data"][field]).headers["content-type"] for field in ("video", "driving", "hands")]
    assert kinds == ["video/mp4", "video/mp4", "image/jpeg"]
    assert (task["annotations"], task["predictions"]) == ([], [])


@pytest.mark.parametrize(("kind", "names"), [
    ("JSON", ["Label Studio user 1", "Label Studio user 2"]),
    ("CSV", ["Label Studio user 1", "Label Studio user 2"]),
    ("snapshot", [ANNA, BEN]),
])  # fmt: skip
def test_answers_come_back_under_their_names(
    studio: Studio, annotated: tuple[Path, Queue, int], tmp_path: Path, kind: str, names: list[str]
) -> None:
    _, queue, project = annotated
    if kind == "snapshot":
        content = studio.snapshot(project)
    else:
        content = studio.anna.get(f"/api/projects/{project}/export", params={"exportType": kind}).content
    path = tmp_path / ("export.csv" if kind == "CSV" else "export.json")
    path.write_bytes(content)
    store = Store(tmp_path / "store")
    import_reviews(store, path, "somebody", AT)
    videos = [one.candidate.video for one in queue.candidates[1:3]]
    said = [
        {by: review.verdict for by, review in answers(Reviews(store.address).history(video)).items()}
        for video in videos
    ]
    anna, ben = names
    assert said == [{anna: "accept", ben: "reject"}, {anna: "reject", ben: "unsure"}]


def test_what_nobody_touched_does_not_win_against_a_later_review(
    studio: Studio, annotated: tuple[Path, Queue, int], tmp_path: Path
) -> None:
    folder, queue, project = annotated
    video = queue.candidates[0].candidate.video
    say(folder, video, "reject", by="dora", at=now())
    path = tmp_path / "all.json"
    export = {"exportType": "JSON", "download_all_tasks": "true"}
    path.write_bytes(studio.anna.get(f"/api/projects/{project}/export", params=export).content)
    import_reviews(Store(folder / "store"), path, "somebody", now())
    assert [(review.by, review.verdict) for review in Reviews(folder / "store").history(video)] == [
        ("carl", "accept"),
        ("dora", "reject"),
    ]
