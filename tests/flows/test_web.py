"""`ipa web`, asked over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.engine.run import Run
from flows.engine.run_folder import RunFolder
from flows.engine.stage import Drop
from flows.engine.store import open_store
from flows.engine.summary import RunSummary, StageTable
from flows.stages import STAGES
from flows.web.app import RUNS, Access, Judging, web_app
from storage import Store
from storage.registry import Registry
from tests.fakes import FAKES, fake_config
from tests.flows.conftest import whole_run
from tests.storage.test_registry import registered

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TOKEN = "an-open-secret"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def site(store: Store, token: str | None = None, host: str = "127.0.0.1") -> TestClient:
    return TestClient(web_app(store, Access(token)), base_url=f"http://{host}")


def ended(
    store: Store, run_id: str, folder: Path, dropped: tuple[Drop, ...] = (), error: str | None = None
) -> RunFolder:
    """A run that has ended, with a report."""
    run = RunFolder(store, run_id)
    run.write_config(fake_config(folder))
    report = run.write("report.html", b"<h1>the report</h1>")
    stages = (StageTable("clips", 2, 0, 2, 1, 0, 3.0),)
    state = "failed" if error else "completed"
    run.write_summary(RunSummary(run_id, state, stages, {"report": report}, error, dropped))
    return run


def test_the_newest_run_comes_first(store: Store, tmp_path: Path) -> None:
    for day in ("01", "02"):
        ended(store, f"202611{day}-030000-0000", tmp_path)
    text = site(store).get("/").text
    assert 0 < text.index("20261102-030000-0000") < text.index("20261101-030000-0000")


def test_older_runs_are_a_link_away(store: Store, tmp_path: Path) -> None:
    for number in range(RUNS + 1):
        ended(store, f"20261101-0300{number:02d}-0000", tmp_path)
    oldest = "20261101-030000-0000"
    assert oldest not in site(store).get("/").text
    assert oldest in site(store).get("/?before=20261101-030001-0000").text


def test_a_run_names_each_dropped_input_with_its_reason(store: Store, tmp_path: Path) -> None:
    ended(store, "a", tmp_path, (Drop("poses", "dance.mp4 #000", "no person was found"),))
    text = site(store).get("/runs/a").text
    assert "dance.mp4 #000" in text and "no person was found" in text


def test_a_failed_run_says_why(store: Store, tmp_path: Path) -> None:
    ended(store, "a", tmp_path, error="no clip could be cut")
    assert "no clip could be cut" in site(store).get("/runs/a").text


def test_a_name_from_a_stranger_stays_text(store: Store, tmp_path: Path) -> None:
    ended(store, "a", tmp_path, (Drop("clips", "<script>alert(1)</script>.mp4", "unreadable"),))
    text = site(store).get("/runs/a").text
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_the_report_is_served_and_may_load_nothing_from_elsewhere(store: Store, tmp_path: Path) -> None:
    ended(store, "a", tmp_path)
    answer = site(store).get("/runs/a/report.html")
    assert answer.text == "<h1>the report</h1>"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_part_of_a_video_is_served(store: Store, tmp_path: Path) -> None:
    ended(store, "a", tmp_path).write("clip.mp4", b"0123456789")
    answer = site(store).get("/runs/a/clip.mp4", headers={"range": "bytes=2-4"})
    assert (answer.status_code, answer.content) == (206, b"234")


@pytest.mark.parametrize(
    "path",
    [
        "/runs/b",
        "/runs/a/nothing.html",
        "/runs/a/../../secret.html",
        "/runs/a/%2e%2e/%2e%2e/secret.html",
        "/runs/a/..%2f..%2fsecret.html",
        "/runs/a//secret.html",
        "/runs/a/key.pem",
        "/runs/a/link.html",
        "/runs/%2e%2e/secret.html",
        "/objects",
    ],
)
def test_nothing_else_is_served(store: Store, tmp_path: Path, path: str) -> None:
    run = ended(store, "a", tmp_path)
    run.write("key.pem", b"treasure")
    (tmp_path / "secret.html").write_text("treasure")
    (tmp_path / "store" / "secret.html").write_text("treasure")
    Path(run.address("link.html")).symlink_to(tmp_path / "secret.html")
    answer = site(store).get(path)
    assert (answer.status_code, "treasure" in answer.text) == (404, False)


def test_an_adapter_is_listed_with_its_run(store: Store, tmp_path: Path) -> None:
    entry = registered("adapter", run="a")
    Registry(store.address).append(lambda state: entry)
    text = site(store).get("/models").text
    assert entry.adapter[:12] in text and 'href="/runs/a"' in text


def test_a_sweep_is_listed_and_opens(store: Store) -> None:
    store.folder.below("sweeps/20261101-ablation").write("results.html", b"a table")
    assert "/sweeps/20261101-ablation/results.html" in site(store).get("/sweeps").text
    assert site(store).get("/sweeps/20261101-ablation/results.html").text == "a table"


def test_a_real_run_is_shown(tmp_path: Path, store: Store) -> None:
    with Run(fake_config(tmp_path, clips__sources=(str(tmp_path / "nowhere"),)), STAGES, FAKES) as run:
        run.walk()
    assert "there is no video at" in site(store).get(f"/runs/{run.summary.run_id}").text


# Who is let in.


def test_on_loopback_a_foreign_name_is_refused(store: Store) -> None:
    assert site(store, host="evil.example").get("/").status_code == 403


def test_without_the_token_there_is_a_form_and_no_content(store: Store, tmp_path: Path) -> None:
    ended(store, "a", tmp_path)
    for path in ("/", "/runs/a", "/runs/a/report.html", "/models"):
        answer = site(store, TOKEN, "gpu-server").get(path)
        assert (answer.status_code, "Token" in answer.text, "state completed" in answer.text) == (401, True, False)


def test_the_form_leads_to_the_page_that_was_asked_for(store: Store, tmp_path: Path) -> None:
    ended(store, "a", tmp_path)
    browser = site(store, TOKEN, "gpu-server")
    answer = browser.post("/sign-in", data={"token": TOKEN, "to": "/runs/a"})
    assert (answer.status_code, answer.url.path) == (200, "/runs/a")
    assert browser.get("/models").status_code == 200


def test_the_printed_address_signs_in_and_loses_the_token(store: Store) -> None:
    answer = site(store, TOKEN, "gpu-server").get(f"/?token={TOKEN}")
    assert (answer.status_code, str(answer.url)) == (200, "http://gpu-server/")


def test_a_script_gives_the_token_as_a_header(store: Store) -> None:
    browser = site(store, TOKEN, "gpu-server")
    assert browser.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert browser.get("/", headers={"authorization": "Bearer wrong"}).status_code == 401


def test_a_wrong_token_is_refused(store: Store) -> None:
    answer = site(store, TOKEN, "gpu-server").post("/sign-in", data={"token": "wrong", "to": "/"})
    assert (answer.status_code, "not the one" in answer.text) == (401, True)


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example/", "/\\evil.example"])
def test_the_sign_in_leads_nowhere_else(store: Store, to: str) -> None:
    browser = site(store, TOKEN, "gpu-server")
    answer = browser.post("/sign-in", data={"token": TOKEN, "to": to}, follow_redirects=False)
    assert answer.headers["location"] == "/"


def test_nothing_is_written(store: Store, tmp_path: Path) -> None:
    ended(store, "a", tmp_path)
    before = sorted((tmp_path / "store").rglob("*"))
    browser = site(store)
    for path in ("/", "/runs/a", "/models", "/sweeps"):
        browser.get(path)
    assert sorted((tmp_path / "store").rglob("*")) == before


def test_json_is_a_files_own(store: Store, tmp_path: Path) -> None:
    ended(store, "a", tmp_path)
    assert json.loads(site(store).get("/runs/a/run.json").text)["run_id"] == "a"


def test_a_store_that_is_not_there_yet_has_a_site_and_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPA_HOME", str(tmp_path / "later"))
    browser = site(open_store(make=False))
    assert [browser.get(path).status_code for path in ("/", "/models", "/sweeps")] == [200, 200, 200]
    assert not (tmp_path / "later").exists()


def test_on_this_machine_people_can_judge_a_run(folder: Path) -> None:
    summary = whole_run(fake_config(folder))
    site = web_app(Store(folder / "store"), Access(None), Judging("anna", folder))
    browser = TestClient(site, base_url="http://127.0.0.1")
    assert f'href="/review/{summary.run_id}/"' in browser.get(f"/runs/{summary.run_id}").text
    page = browser.get(f"/review/{summary.run_id}/")
    assert "script" in page.text and "default-src 'self'" in page.headers["content-security-policy"]
    assert browser.get(f"/review/{summary.run_id}/api/run").json()["by"] == "anna"
    assert f'href="/compare/{summary.run_id}/"' in browser.get(f"/runs/{summary.run_id}").text
    assert "compare.js" in browser.get(f"/compare/{summary.run_id}/").text
    question = browser.get(f"/compare/{summary.run_id}/api/questions/0").json()
    assert browser.get(f"/compare/{summary.run_id}/video/{question['left']}").headers["content-type"] == "video/mp4"


def test_from_elsewhere_nothing_can_be_reviewed(folder: Path) -> None:
    summary = whole_run(fake_config(folder))
    browser = site(Store(folder / "store"), TOKEN, "gpu-server")
    signed_in = {"authorization": f"Bearer {TOKEN}"}
    assert "/review/" not in browser.get(f"/runs/{summary.run_id}", headers=signed_in).text
    assert browser.get(f"/review/{summary.run_id}/", headers=signed_in).status_code == 404
