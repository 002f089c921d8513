import numpy as np
import pytest

from ipa_core.clips.shots import colour_distance, colour_histograms, shots
from ipa_core.config import ClipsConfig
from ipa_core.video import TimedFrame
from tests.clips.recordings import scene, shown

THRESHOLD = ClipsConfig(sources=()).cut_threshold


def distance(first: np.ndarray, second: np.ndarray) -> float:
    return colour_distance(colour_histograms(first), colour_histograms(second))


def plain(level: int) -> np.ndarray:
    return np.full((48, 64, 3), level, np.uint8)


def test_the_distance_is_a_distance() -> None:
    assert distance(scene(1), scene(1)) == pytest.approx(0, abs=1e-6)
    assert distance(scene(1), scene(2)) == distance(scene(2), scene(1))
    assert distance(plain(0), plain(255)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_other_scenes_are_far_apart(seed: int) -> None:
    assert distance(scene(seed), scene(seed + 1)) > THRESHOLD


@pytest.mark.parametrize("seed", range(8))
def test_what_moves_in_a_scene_changes_little(seed: int) -> None:
    later = np.roll(scene(seed), 4, axis=1)
    later[40:80, 20:35] = scene(seed + 1)[40:80, 20:35]
    assert distance(scene(seed), later) < 0.8 * THRESHOLD


def test_a_plain_wall_may_turn_brighter() -> None:
    assert max(distance(plain(level), plain(level + 2)) for level in range(0, 250, 5)) < 0.8 * THRESHOLD


def test_the_same_colours_at_other_places_are_another_shot() -> None:
    halves = np.hstack([plain(60), plain(180)])
    assert distance(halves, halves[:, ::-1]) > THRESHOLD


def test_noise_is_no_cut() -> None:
    random = np.random.default_rng(0)
    first, second = (random.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(2))
    assert distance(first, second) < 0.5 * THRESHOLD


def test_shots_end_at_cuts_and_at_pauses() -> None:
    levels_and_times = [(10, 0.0), (10, 0.1), (200, 0.2), (200, 0.3), (200, 0.9), (10, 1.0)]
    pictures = [TimedFrame(seconds, shown(plain(level))) for level, seconds in levels_and_times]
    found = [[frame.seconds for frame in shot] for shot in shots(pictures, THRESHOLD, longest_gap=0.5)]
    assert found == [[0.0, 0.1], [0.2, 0.3], [0.9], [1.0]]
