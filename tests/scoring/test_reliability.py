"""Shares of variance and split-half reliability, on numbers whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from ipa_core.scoring.reliability import Measured, reliability


def drawn(between: float, within: float, noise: float, clips: int = 400, each: int = 6) -> list[Measured]:
    """Standard deviations: of clips, of candidates of one clip, of the measurement of half the frames."""
    source = np.random.default_rng(0)
    found = []
    for clip in range(clips):
        middle = source.normal(0, between)
        for _ in range(each):
            value = middle + source.normal(0, within)
            even, odd = value + source.normal(0, noise, 2) if noise else (value, value)
            found.append(Measured(str(clip), (even + odd) / 2, even, odd))
    return found


def test_the_share_of_the_variance_within_a_clip() -> None:
    found = reliability(drawn(between=3.0, within=1.0, noise=0.0))
    assert found.within_share == pytest.approx(0.1, abs=0.02)


def test_what_differs_between_clips_only_is_no_reliability() -> None:
    """Both halves agree on which clip is the better one, and on no candidate of it."""
    found = reliability(drawn(between=3.0, within=0.0, noise=1.0))
    assert found.split_half == pytest.approx(0.0, abs=0.1)


def test_split_half_is_the_share_of_the_true_variance() -> None:
    # Half: 1 / (1 + 1); whole by Spearman-Brown: 2/3, the reliability of a mean of two.
    found = reliability(drawn(between=3.0, within=1.0, noise=1.0))
    assert found.split_half == pytest.approx(2 / 3, abs=0.05)
    assert found.interval is not None
    assert found.interval[0] < 2 / 3 < found.interval[1]


def test_halves_that_contradict_each_other_stay_negative() -> None:
    source = np.random.default_rng(1)
    values = [(str(clip), source.normal()) for clip in range(50) for _ in range(4)]
    found = reliability([Measured(clip, 0.0, value, -value) for clip, value in values])
    assert found.split_half == -1.0


def test_single_candidates_and_missing_measures_are_left_out() -> None:
    found = reliability(
        [
            Measured("a", 1.0, 1.0, None),
            Measured("b", 1.0, 1.0, 1.0),
            Measured("b", 2.0, 2.0, 2.0),
            Measured("c", None, None, None),
        ]
    )
    assert (found.candidates, found.clips, found.within_share) == (2, 1, None)


def test_nothing_measured() -> None:
    found = reliability([Measured("a", None, None, None)])
    assert (found.clips, found.mean, found.split_half, found.interval) == (0, None, None, None)


def chosen(clip: str, *candidates: tuple[float, float]) -> list[Measured]:
    """(choice, value) of each."""
    return [Measured(clip, value, None, None, choice) for choice, value in candidates]


def test_the_gain_of_choosing_by_another_measure() -> None:
    """-2 in a, +3 in b; a clip of one has no choice."""
    found = reliability(
        [*chosen("a", (0.9, 1.0), (0.1, 5.0)), *chosen("b", (0.2, 9.0), (0.1, 3.0)), *chosen("c", (1, 9.0))]
    )
    assert (found.gain, found.most) == (0.5, 2.5)
    assert found.spread == pytest.approx(((8 + 18) / 2) ** 0.5)
    assert found.gain_interval == (-2.0, 3.0)


def test_a_choice_that_can_not_tell_gains_nothing() -> None:
    assert reliability(chosen("a", (0.0, 1.0), (0.0, 5.0))).gain == 0
