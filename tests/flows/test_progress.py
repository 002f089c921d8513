"""Progress: what is told, and the time left."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import pytest

from flows.engine.course import Expected
from flows.engine.progress import Progress, StageProgress
from flows.engine.run import Run
from flows.engine.watch import Watch
from flows.engine.work import Outcome
from flows.stages import STAGES
from tests.fakes import FAKES, fake_config


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [1000.0]
    # The one module `time`, wherever it is used.
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
    progress.start("candidates", cached=0, works={"key": 1.0, "other": 1.0})
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


class Story:
    """A run that is told to a `Progress`, and what it says."""

    def __init__(self, clock: list[float], **expected: Expected) -> None:
        self._clock = clock
        self.told: list[StageProgress] = []
        self.stream = io.StringIO()
        self._progress = Progress(self.stream, every=0, listen=self.told.append)
        self._progress.expect(expected)

    def stage(self, name: str, works: dict[str, float], seconds: float) -> None:
        """Compute items one by one, each in as many seconds."""
        self._progress.start(name, cached=0, works=works)
        for key in works:
            self._clock[0] += seconds
            self._progress.done(Outcome(key, error="for this test"))

    def part(self, key: str, share: float) -> None:
        self._clock[0] += 1
        self._progress.part(key, share)

    def begin(self, name: str, **works: float) -> None:
        self._progress.start(name, cached=0, works=works)

    def finish(self, name: str) -> None:
        self._progress.finish(name, "")


def test_a_comparison_at_the_end_takes_no_share_back(clock: list[float]) -> None:
    story = Story(clock)
    story.stage("evaluation", dict.fromkeys("abcd", 1.0), 10)
    story.stage("evaluation", {"comparison": 0.0}, 1)
    assert [round(one.share, 2) for one in story.told] == [0, 0.25, 0.5, 0.75, 1, 1, 1]


def test_an_item_that_begins_again_takes_no_share_back(clock: list[float]) -> None:
    """As when its batch did not fit into memory, or its worker died."""
    story = Story(clock)
    story.begin("candidates", key=1.0)
    for share in (0.5, 0.75, 0.25, 0.8):
        story.part("key", share)
    assert [one.share for one in story.told] == [0, 0.5, 0.75, 0.75, 0.8]


def test_the_share_of_a_run_counts_seconds_as_forecast(clock: list[float]) -> None:
    """Three stages of 10, 30 and 60 s. The second finds half its items, the third twice as many as expected."""
    story = Story(clock, poses=Expected(1, 10.0), scores=Expected(2, 30.0), evaluation=Expected(1, 60.0))
    for name, count in (("poses", 1), ("scores", 1), ("evaluation", 2)):
        story.stage(name, dict.fromkeys(map(str, range(count)), 1.0), 15)
        story.finish(name)
    shares = [round(one.run_share or 0, 2) for one in story.told]
    assert shares == [0, 0.1, 0.1, 0.4, 0.4, 0.7, 1]


def test_the_time_left_of_a_run_is_that_of_all_its_stages(clock: list[float]) -> None:
    story = Story(clock, poses=Expected(10, 100.0), scores=Expected(10, 50.0))
    story.stage("poses", dict.fromkeys(map(str, range(10)), 1.0), 10)
    assert [round(one.run_seconds_left or 0) for one in story.told] == list(range(150, 49, -10))


def test_a_slow_machine_is_found_out_bit_by_bit(clock: list[float]) -> None:
    """Every item takes three times the forecast: the estimate climbs to the truth and never jumps."""
    story = Story(clock, poses=Expected(50, 100.0), scores=Expected(50, 100.0))
    story.stage("poses", dict.fromkeys(map(str, range(50)), 1.0), 6)
    story.finish("poses")
    story.stage("scores", dict.fromkeys(map(str, range(50)), 1.0), 6)
    left = [one.run_seconds_left or 0.0 for one in story.told]
    ends = [left + now for left, now in zip(left, [*range(0, 301, 6), *range(300, 601, 6)], strict=True)]
    assert max(abs(later - earlier) for earlier, later in pairwise(ends)) < 65  # of 600
    assert ends[25] == pytest.approx(600, rel=0.15)


def test_more_work_than_forecast_is_said(clock: list[float]) -> None:
    story = Story(clock, poses=Expected(1, 10.0), scores=Expected(2, 30.0))
    story.stage("scores", dict.fromkeys("abcd", 1.0), 1)
    note = story.stream.getvalue().splitlines()[0]
    assert note == "note: scores has work for 4 items, and the forecast said 2: the time left grows"


def test_without_a_forecast_the_numbers_are_of_the_stage(clock: list[float]) -> None:
    story = Story(clock, poses=Expected(2, 10.0), scores=Expected(4, None))
    story.stage("poses", dict.fromkeys("abc", 1.0), 10)
    said = story.told[2].sentence()
    assert (said, story.told[2].run_share) == ("poses      2/3 (66 %), about 10 s left of this stage", None)


def test_all_is_said_only_at_the_end(clock: list[float]) -> None:
    assert said(clock, (0, "a", 0.999)) == ["a (99 %)"]


class Listening(Watch):
    def __init__(self) -> None:
        self.told: list[StageProgress] = []

    def progress(self, progress: StageProgress) -> None:
        self.told.append(progress)


def test_the_share_of_a_real_run_only_grows(folder: Path) -> None:
    """The store has the times of an earlier run, and this one trains anew: four starts of stages are told at least."""
    watch = Listening()
    with Run(fake_config(folder, alignment__seed=9), STAGES, FAKES, watch=watch, quiet=True) as run:
        run.walk()
    shares = [one.run_share for one in watch.told]
    assert {one.stage for one in watch.told} == {"references", "finetune", "evaluation"}
    assert (shares[0], sorted(share or 0 for share in shares)) == (0, shares)
