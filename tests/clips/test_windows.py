from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_core.clips.windows import Leftover, Window, resample, windows
from ipa_core.video import BrokenVideo, TimedFrame
from tests.clips.recordings import shown


def shot(seconds: list[float]) -> list[TimedFrame]:
    return [TimedFrame(time, shown(np.full((1, 1, 3), index, np.uint8))) for index, time in enumerate(seconds)]


@given(
    st.lists(st.floats(0.01, 0.4), min_size=1, max_size=60),
    st.sampled_from([8.0, 16.0, 24.0, 29.97]),
    st.floats(0, 100),
)
def test_each_picture_is_a_nearest_one(steps: list[float], fps: float, start: float) -> None:
    times = start + np.cumsum([0, *steps])
    found = list(resample(shot(list(times)), fps, step=0.05))
    assert [seconds for seconds, _ in found] == pytest.approx([start + k / fps for k in range(len(found))])
    for seconds, frame in found:
        distances = np.abs(times - seconds)
        assert distances[frame.picture[0, 0, 0]] <= distances.min() + 1e-5
    assert times[-1] - 1 / fps < found[-1][0] < times[-1] + 0.03


@pytest.mark.parametrize("rate", [8, 10, 12, 15, 16, 24, 25, 30, 50, 60])
@pytest.mark.parametrize("seconds", [1, 3])
def test_whole_seconds_give_whole_seconds(rate: int, seconds: int) -> None:
    pictures = shot([index / rate for index in range(rate * seconds)])
    assert len(list(resample(pictures, 16, step=1 / rate))) == 16 * seconds


def test_windows_lie_back_to_back_in_each_shot() -> None:
    tenths = [index / 10 for index in range(9)]
    found = list(windows([shot(tenths[:5]), shot(tenths[5:])], frames=2, fps=10, step=0.1, keep=id))
    assert [(type(part), part.start) for part in found] == [
        (Window, 0.0),
        (Window, pytest.approx(0.2)),
        (Leftover, pytest.approx(0.4)),
        (Window, pytest.approx(0.5)),
        (Window, pytest.approx(0.7)),
    ]
    assert found[2].seconds == pytest.approx(0.1)


def test_a_break_ends_the_last_window() -> None:
    def broken() -> Iterator[TimedFrame]:
        yield from shot([index / 10 for index in range(5)])
        raise BrokenVideo(0.5, "damage")

    *whole, last = windows([broken()], frames=3, fps=10, step=0.1, keep=id)
    assert [type(part) for part in whole] == [Window]
    assert isinstance(last, Leftover)
    assert last.start == pytest.approx(0.3)
    assert str(last.broken) == "broken at 0.5 s: damage"
