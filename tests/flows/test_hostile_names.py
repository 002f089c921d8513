"""Names that a stranger gave to files, in a real browser: each page shows their text, and runs nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn

from deployments.screenshots import chromium
from flows.engine.run_folder import RunFolder, RunSummary, StageTable
from flows.engine.stage import Drop
from flows.outcomes.report import report_of
from flows.web.app import Access, web_app
from ipa_core.reporting.page import Page, Section, Table
from storage import Store
from tests.fakes import fake_config

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
RUN: Final = "20261101-030000-0000"
HOSTILE: Final = (
    "<script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title = 'taken'\">",
    '"><svg onload="document.title = \'taken\'">',
    "two\nlines",
    "\u202egpj.exe",
    "=cmd()",
    "javascript:alert(1)",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not Path("/usr/bin/chromedriver").exists():
        pytest.skip("there is no Chromium (Debian: chromium, chromium-driver)")
    opened = chromium()
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("hostile")
    store = Store(folder / "store")
    run = RunFolder(store, RUN)
    run.write_config(fake_config(folder).model_copy(update={"name": HOSTILE[0]}))
    dropped = tuple(Drop("clips", name, f"no person in {name}") for name in HOSTILE)
    table = StageTable("clips", 9, 0, 9, 7, 0, 3.0)
    run.write_summary(RunSummary(RUN, "failed", (table,), {"report": HOSTILE[1]}, HOSTILE[2], dropped))
    report_of(run, store)
    rows = tuple((name, "0.5") for name in HOSTILE)
    page = Page(HOSTILE[0], (Section(HOSTILE[1], (HOSTILE[2], Table(("arm", "score"), rows))),))
    store.folder.write("sweeps/one/results.html", page.html().encode())
    return store


@pytest.fixture(scope="module")
def site(store: Store) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(web_app(store, Access(None)), port=0, log_level="error"))
    listening = server.config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


PAGES: Final = ("/", f"/runs/{RUN}", f"/runs/{RUN}/report.html", "/sweeps/one/results.html")


@pytest.mark.parametrize("page", PAGES)
def test_names_are_text(page: str, site: str, browser: Any) -> None:
    browser.get(site + page)
    assert "taken" not in browser.title.replace("'taken'", "")
    assert (
        browser.execute_script("return document.querySelectorAll('script, [onerror], [onload], body img').length") == 0
    )
    shown = browser.find_element("tag name", "body").get_attribute("textContent")
    assert all(" ".join(name.split()) in " ".join(shown.split()) for name in HOSTILE[: 1 if page == "/" else None])


@pytest.mark.parametrize("name", [f"runs/{RUN}/report.html", "sweeps/one/results.html"])
def test_a_page_opened_as_a_file_runs_nothing_even_if_a_script_got_in(
    name: str, store: Store, tmp_path: Path, browser: Any
) -> None:
    html = (
        (store.folder.read(name) or b"").decode().replace("</main>", "<script>document.title = 'ran'</script></main>")
    )
    (tmp_path / "page.html").write_text(html)
    browser.get(f"file://{tmp_path}/page.html")
    assert browser.title != "ran"
