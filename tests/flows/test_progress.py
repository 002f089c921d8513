"""Progress: what is told, and the time left."""

from __future__ import annotations

import io

import pytest

from flows.engine.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [1000.0]
    monkeypatch.setattr("flows.engine.progress.time.monotonic", lambda: moment[0])
    return moment


def said(clock: list[float], *heard: tuple[float, str, float]) -> list[str]:
    """The lines after each (seconds, what, share)."""
    stream = io.StringIO()
    progress = Progress(stream)
    for seconds, what, share in heard:
        clock[0] += seconds
        progress.share(what, share)
    return stream.getvalue().splitlines()


def test_time_left_is_by_the_speed_since_it_began(clock: list[float]) -> None:
    assert said(clock, (0, "step 10", 0.1), (30, "step 20", 0.2))[-1] == "step 20 (20 %, about 4 min left)"


def test_what_an_earlier_run_did_is_no_speed(clock: list[float]) -> None:
    """Resumed at 80 %: nothing is known at first."""
    assert said(clock, (0, "a", 0.8), (10, "b", 0.9)) == ["a (80 %)", "b (90 %, about 10 s left)"]


def test_other_work_has_a_speed_of_its_own(clock: list[float]) -> None:
    lines = said(clock, (0, "a", 0.5), (10, "a", 1.0), (60, "b", 0.5), (10, "b", 0.75))
    assert lines[1:] == ["a (100 %)", "b (50 %)", "b (75 %, about 10 s left)"]


def test_lines_come_now_and_then(clock: list[float]) -> None:
    assert len(said(clock, *[(1, "a", number / 20) for number in range(1, 20)])) == 4


def left(clock: list[float], *heard: tuple[float, int]) -> list[float | None]:
    """The seconds left of a stage of two items, after each (seconds, steps of 10 of the first item)."""
    told: list[float | None] = []
    progress = Progress(io.StringIO(), every=0, listen=lambda now: told.append(now.seconds_left))
    progress.start("candidates", cached=0, misses=2)
    for seconds, steps in heard:
        clock[0] += seconds
        progress.part("key", steps / 10)
    return told[1:]


def test_loading_a_model_is_no_speed(clock: list[float]) -> None:
    """60 s until the first step, then one in 15 s."""
    assert left(clock, (60, 1), (15, 2)) == [None, pytest.approx(15 * 18)]


def test_what_an_item_had_already_is_no_speed(clock: list[float]) -> None:
    assert left(clock, (4, 8), (5, 9)) == [None, pytest.approx(5 * 11)]


def test_a_batch_that_is_heard_of_all_at_once_is_no_speed(clock: list[float]) -> None:
    assert left(clock, (60, 1), (0.01, 9)) == [None, None]
