from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("anny")
pytest.importorskip("numba")

from ipa_core.people.hand_windows import MARGIN, render_hands
from ipa_core.people.render import Camera


def test_a_zoomed_camera_shows_its_centre_in_the_middle() -> None:
    whole = Camera(np.array([0.0, -1.45, 1.2]), 200)
    place = np.array([0.12, 0.0, 1.3])
    pixel, depth = whole.project(place)
    near = Camera(whole.position, 200, zoom=4.0, centre=tuple((pixel / 200 - 0.5).tolist()))
    np.testing.assert_allclose(near.project(place)[0], (100, 100), atol=1e-9)
    beside = place + np.array([0.01, 0.0, 0.0])
    np.testing.assert_allclose(near.project(beside)[0] - 100, 4 * (whole.project(beside)[0] - pixel), atol=1e-9)
    assert depth == pytest.approx(1.45)


@pytest.mark.slow
def test_each_hand_is_in_the_middle_of_its_window_in_the_size_asked_for() -> None:
    shown = render_hands(3, size=104, frames=2, fps=2.0, sides=["left"])
    assert [len(windows) for windows in shown] == [2]
    for window in shown[0]:
        sizes = np.ptp(window.points, axis=1).max(axis=1)
        assert np.percentile(sizes, 75) == pytest.approx(104 / MARGIN, rel=0.01)
        middles = (window.points.min(axis=1) + window.points.max(axis=1)) / 2
        np.testing.assert_allclose(middles, 52, atol=0.5)
        assert window.outside.mean() == pytest.approx(0.5, abs=0.45)
