"""The review page in a headless Chromium (Debian: chromium, chromium-driver): by keyboard, as a person would."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.review_screenshots import DESKTOP, PHONE, READY, resize, wait_for
from deployments.screenshots import chromium
from flows.engine.run_folder import RunFolder
from flows.engine.walk import Scope
from flows.review.app import review_app
from flows.review.queue import Queue, open_queue
from flows.review.server import address, listen, serve
from flows.review.session import Session
from flows.stages.selection import decisions
from ipa_core.config import RunConfig
from storage import Store
from storage.reviews import Reviews, verdicts
from tests.fakes import fake_config, write_videos
from tests.flows.conftest import Done, run_fake

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/usr/bin/chromedriver").exists(), reason="needs chromium and chromium-driver"),
]
SELECTED = Scope(last="selection")
DECISIONS = 20
_AT_REST = "return document.body.dataset.shown !== undefined && !document.body.classList.contains('busy')"


class Page:
    """What a person sees and presses."""

    def __init__(self, browser: Any, place: str) -> None:
        self._browser = browser
        browser.get(place)
        wait_for(browser, _AT_REST)

    def press(self, key: str) -> None:
        self._browser.find_element("tag name", "body").send_keys(key)
        wait_for(self._browser, _AT_REST)

    def shown(self) -> int:
        return int(self._browser.execute_script("return document.body.dataset.shown"))

    def run(self, script: str) -> Any:
        return self._browser.execute_script(script)

    def text(self, name: str) -> str:
        return str(self._browser.find_element("id", name).text)

    def reload(self) -> None:
        self._browser.refresh()
        wait_for(self._browser, _AT_REST)
        wait_for(self._browser, "return document.querySelectorAll('.row').length > 0")

    def errors(self) -> list[Any]:
        return [line for line in self._browser.get_log("browser") if line["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("run")
    write_videos(folder / "videos", 14)
    # Nobody is held out, so that the number of candidates does not depend on how the hashes of the videos fall.
    return fake_config(folder, clips__held_out=0.0, candidates__per_clip=3, selection__threshold=0.5)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = chromium()
    yield found
    found.quit()


def run(config: RunConfig) -> Done:
    done = run_fake(config, SELECTED)
    folder = RunFolder.new(done.store)
    folder.write_config(config)
    folder.write_items(done.results)
    return done


def opened(config: RunConfig, blind: bool = False) -> tuple[Store, Queue, str]:
    assert config.execution.store is not None
    store = Store(config.execution.store)
    queue, listening = open_queue(store, None), listen(0)
    session = Session(store, queue, "anna", blind)
    threading.Thread(target=serve, args=(review_app(session), listening), daemon=True).start()
    return store, queue, address(listening)


def test_twenty_decisions_by_keyboard_are_there_after_a_reload_and_in_the_next_run(
    config: RunConfig, browser: Any
) -> None:
    run(config)
    store, queue, place = opened(config)
    page = Page(browser, place)
    for number in range(DECISIONS):
        assert page.shown() == number
        page.press("a" if number % 2 else "r")
    page.reload()

    expected = {
        one.candidate.video: "accept" if number % 2 else "reject"
        for number, one in enumerate(queue.candidates[:DECISIONS])
    }
    assert verdicts(Reviews(store.address).histories()) == expected
    assert page.text("progress").startswith(f"20 of {len(queue.candidates)} reviewed: 10 accepted, 10 rejected")
    assert page.shown() == DECISIONS  # It goes on with the first undecided one.
    assert page.errors() == []

    done = run(config)
    assert done.computed() == {"selection": 1}
    selected = done.one("selection")
    videos = {(one.candidate.clip_id, one.candidate.seed): one.candidate.video for one in queue.candidates}
    by_hand = [line for line in decisions(selected[1], store) if videos[line.clip_id, line.seed] in expected]
    assert len(by_hand) == DECISIONS
    for line in by_hand:
        verdict = expected[videos[line.clip_id, line.seed]]
        assert (line.kept, line.reason.split(",")[0]) == (verdict == "accept", f"{verdict}ed by hand")


def test_undo_goes_back_to_the_candidate_and_takes_its_decision_back(config: RunConfig, browser: Any) -> None:
    run(config)
    store, _, place = opened(config)
    before = len(verdicts(Reviews(store.address).histories()))
    page = Page(browser, place)
    at = page.shown()
    page.press("a")
    assert len(verdicts(Reviews(store.address).histories())) == before + 1
    page.press("u")
    assert (page.shown(), page.text("verdict")) == (at, "not decided by hand")
    assert len(verdicts(Reviews(store.address).histories())) == before


def test_next_previous_and_siblings(config: RunConfig, browser: Any) -> None:
    run(config)
    _, queue, place = opened(config)
    page = Page(browser, f"{place}#5")
    page.press("\ue014")  # arrow right
    assert page.shown() == 6
    page.press("\ue012")  # arrow left
    assert page.shown() == 5
    page.press("2")
    assert page.shown() == queue.clip(queue.candidates[5])[2]
    assert page.text("name").endswith("candidate 2")


def test_unsure_goes_on_and_leaves_the_verdict_open(config: RunConfig, browser: Any) -> None:
    run(config)
    store, queue, place = opened(config)
    page = Page(browser, place)
    at = page.shown()
    page.press("d")
    assert page.shown() != at
    video = queue.candidates[at].candidate.video
    assert [review.verdict for review in Reviews(store.address).history(video)[-1:]] == ["unsure"]
    page.press("u")


def test_pause_and_steps_move_both_videos_by_one_frame(config: RunConfig, browser: Any) -> None:
    run(config)
    _, _, place = opened(config)
    page = Page(browser, f"{place}#3")
    wait_for(browser, READY)
    times = "return ['candidate', 'driving'].map((id) => document.getElementById(id).currentTime)"
    page.press(" ")
    page.press(".")
    wait_for(browser, f"{times}.every((time, _, all) => time === all[0] && time > 0)")
    [before, _] = page.run(times)
    page.press(".")
    wait_for(browser, f"{times}.every((time, _, all) => time === all[0] && time !== {before})")
    seconds = page.run("return document.getElementById('candidate').duration") / 5
    after, driving = page.run(times)
    assert (after - before) % (5 * seconds) == pytest.approx(seconds, abs=1e-3)
    assert driving == after


def test_slow_motion_and_zoom_stay_for_the_next_candidate(config: RunConfig, browser: Any) -> None:
    run(config)
    _, _, place = opened(config)
    page = Page(browser, f"{place}#3")
    for key in ("f", "z", "\ue014"):
        page.press(key)
    wait_for(browser, READY)
    film = "const film = document.getElementById('candidate'); "
    assert page.run(film + "return film.playbackRate") == 0.5
    assert page.run(film + "return film.parentElement.style.transform") == "scale(2)"


def test_a_filter_leaves_the_candidates_of_one_clip(config: RunConfig, browser: Any) -> None:
    run(config)
    _, queue, place = opened(config)
    page = Page(browser, f"{place}#0")
    name = queue.candidates[-1].name.rpartition(" candidate")[0]
    browser.find_element("id", "text").send_keys(f"{name}\n")
    browser.find_element("id", "text").send_keys("\ue004")  # tab
    wait_for(browser, "return document.getElementById('found').textContent === '3 listed'")
    wait_for(browser, _AT_REST)
    assert page.shown() == sorted(queue.clip(queue.candidates[-1]))[0]


def test_a_blind_page_tells_the_score_after_the_answer(config: RunConfig, browser: Any) -> None:
    run(config)
    _, queue, place = opened(config, blind=True)
    page = Page(browser, f"{place}#30")
    score = f"{queue.candidates[30].score.score:.3f}"
    wait_for(browser, "return document.querySelectorAll('.row').length > 0")
    assert score not in page.run("return document.body.innerText")
    page.press("a")
    browser.get(f"{place}#30")
    page.reload()
    assert score in page.run("return document.getElementById('first').innerText")


@pytest.mark.parametrize(("size", "wanted"), [(DESKTOP, "driving-hands"), (PHONE, "candidate"), ((820, 1180), "hands")])
def test_a_window_shows_what_matters_without_scrolling(
    config: RunConfig, browser: Any, size: tuple[int, int], wanted: str
) -> None:
    run(config)
    _, _, place = opened(config)
    resize(browser, *size)
    page = Page(browser, place)
    wait_for(browser, READY)
    bottom = page.run(f"return document.getElementById('{wanted}').getBoundingClientRect().bottom")
    assert bottom <= page.run("return innerHeight")
    assert page.run("return document.documentElement.scrollWidth") == size[0]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
