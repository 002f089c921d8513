"""The blind comparison in a headless Chromium: by keyboard and by click, as a person would."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.review_screenshots import PHONE, READY, resize, wait_for
from flows.review.compare import Comparing, open_pairs
from flows.review.compare_app import compare_app
from flows.review.server import address, listen, serve
from storage.preferences import Preferences
from tests.flows.test_review_compare import comparing
from tests.flows.test_review_page import Page, browser

__all__ = ["browser", "comparing"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/usr/bin/chromedriver").exists(), reason="needs chromium and chromium-driver"),
]
LEFT, RIGHT, DOWN = "\ue012", "\ue014", "\ue015"


@pytest.fixture
def page(comparing: Comparing, browser: Any, tmp_path: Path) -> Iterator[Page]:
    scratch, listening = tmp_path / "scratch", listen(0)
    scratch.mkdir()
    threading.Thread(target=serve, args=(compare_app(comparing, scratch), listening), daemon=True).start()
    yield Page(browser, address(listening))
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def kept(comparing: Comparing) -> list[str | None]:
    return Comparing(comparing.store, open_pairs(comparing.store, None), "anna").answers()  # type: ignore[return-value]


def test_keys_answer_and_undo(page: Page, comparing: Comparing, browser: Any) -> None:
    shown = []
    for key in (LEFT, RIGHT, DOWN):
        shown.append(page.shown())
        page.press(key)
    assert shown == [0, 1, 2]
    assert kept(comparing)[:3] == ["left", "right", "same"]
    page.press("u")
    assert (page.shown(), page.text("verdict"), kept(comparing)[2]) == (2, "not answered", None)
    assert page.errors() == []


def test_what_was_said_stands_after_a_reload(page: Page, comparing: Comparing, browser: Any) -> None:
    browser.find_element("id", "right").click()
    wait_for(browser, "return document.body.dataset.shown === '1' && !document.body.classList.contains('busy')")
    page.press("b")
    browser.refresh()
    wait_for(browser, "return document.getElementById('verdict').textContent === 'you said: right is better'")
    assert len(Preferences(comparing.store.address).histories()) == 1
    seen = [one for one in comparing.questions if one.tokens["left"] in page.run("return document.images[0].src")]
    assert seen == [comparing.questions[0]]  # The same pair on the same sides.


def test_the_page_fits_a_phone(page: Page, browser: Any) -> None:
    resize(browser, *PHONE)
    wait_for(browser, READY)
    box = "return document.getElementById('{}').getBoundingClientRect()"
    assert page.run("return document.documentElement.scrollWidth") == PHONE[0]
    for part in ("left-side", "right-side", "left", "same", "right"):
        assert page.run(box.format(part))["bottom"] <= PHONE[1]
