"""Rendered clips: the same for a seed, and true about where the hands are.

Slow because anny's first use on a machine builds its body model for minutes; after that, all of this takes seconds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ipa_core import keypoints as kp

pytest.importorskip("anny", reason="rendering needs the extra [synthetic]: anny is not installed")
pytest.importorskip("numba", reason="rendering needs the extra [synthetic]: numba is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

from ipa_core.people.dataset import Shooting, load_shards, render_clips, render_shards  # noqa: E402
from ipa_core.people.performers import PERFORMERS, PROMPT  # noqa: E402
from ipa_core.people.render import RenderedClip, render_clip  # noqa: E402


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render_clip(PERFORMERS[4], seed=11, size=96, frames=3, fps=8)


def test_a_seed_is_a_picture(clip: RenderedClip) -> None:
    again = render_clip(PERFORMERS[4], seed=11, size=96, frames=3, fps=8)
    other = render_clip(PERFORMERS[4], seed=12, size=96, frames=3, fps=8)
    assert np.array_equal(clip.frames, again.frames)
    assert np.array_equal(clip.keypoints, again.keypoints)
    assert not np.array_equal(clip.frames, other.frames)


def test_visible_hand_points_lie_in_the_hand_mask(clip: RenderedClip) -> None:
    inside = []
    for mask, points, confidence in zip(clip.hand_mask, clip.keypoints, clip.confidence, strict=True):
        grown = np.pad(mask, 1)
        near = np.any([np.roll(grown, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)], axis=0)[1:-1, 1:-1]
        for part in kp.HANDS.values():
            seen = points[part][confidence[part] == 1].astype(int)
            inside += near[seen[:, 1], seen[:, 0]].tolist()
    assert len(inside) > 60
    assert np.mean(inside) > 0.97


def test_left_hand_is_the_persons_left(clip: RenderedClip) -> None:
    """Performers face the camera: the left shoulder and hand are on the right of the picture."""
    points = clip.keypoints
    assert (points[:, kp.LEFT_SHOULDER, 0] > points[:, kp.RIGHT_SHOULDER, 0]).all()
    assert (points[:, kp.LEFT_HAND, 0].mean(axis=1) > points[:, kp.RIGHT_HAND, 0].mean(axis=1)).all()


def test_only_the_finger_that_is_gone_leaves_the_hand_mask(clip: RenderedClip) -> None:
    gone = render_clip(
        PERFORMERS[4],
        seed=11,
        size=96,
        frames=3,
        fps=8,
        change=lambda model, posed: model.without_finger(posed, "left", finger=1, joint=1),
    )
    assert np.array_equal(gone.keypoints, clip.keypoints)
    for before, after, points in zip(clip.hand_mask, gone.hand_mask, clip.keypoints, strict=True):
        lost = np.argwhere(before & ~after)[:, ::-1] + 0.5
        index = np.linspace(*points[kp.LEFT_HAND][[kp.FINGERS[1][0], kp.FINGERS[1][3]]], 9)
        assert len(lost) >= 8
        assert np.linalg.norm(lost[:, None] - index, axis=2).min(axis=1).max() < 6


def test_hands_are_large_enough_to_score(clip: RenderedClip) -> None:
    for part in kp.HANDS.values():
        size = np.ptp(clip.keypoints[:, part], axis=1).max(axis=1)
        assert (size > 16).all(), size


def test_shards_resume_and_do_not_depend_on_their_company(tmp_path: Path) -> None:
    shooting = Shooting(seed=5, size=32, frames=1, fps=8, clips_per_person=2)
    first = render_shards(tmp_path / "a", 2, shooting)
    written = first[0].stat().st_mtime_ns
    assert render_shards(tmp_path / "a", 2, shooting) == first
    assert first[0].stat().st_mtime_ns == written
    longer = load_shards(render_shards(tmp_path / "b", 3, shooting))
    assert np.array_equal(load_shards(first).frames, longer.frames[:2])
    assert longer.person.tolist() == [0, 0, 1]


def test_clips_come_with_their_table(tmp_path: Path) -> None:
    paths = render_clips(tmp_path, 2, seed=1, size=64, frames=3, fps=8)
    rows = (tmp_path / "metadata.csv").read_text().splitlines()
    assert rows[0] == "file,prompt,group"
    assert rows[1] == f"{paths[0].name},{PROMPT},ada"
    assert len(rows) == 3
