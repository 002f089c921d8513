"""Early rejection replayed on finished candidates; numbers by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ipa_core.config import EarlyConfig
from ipa_core.generation.calibration import (
    Bar,
    Scores,
    bar_of,
    fewer,
    full,
    rank_correlation,
    ratio,
    replayed,
    screened,
)

LEVELS = SimpleNamespace(noise_levels=(1.0, 0.75, 0.5, 0.25), passes=(1, 1, 1, 1))
GUIDED = SimpleNamespace(noise_levels=LEVELS.noise_levels, passes=(2, 2, 1, 1))
CLIPS = (
    Scores(np.array([0.1, 0.2, 0.3, 0.4]), {0.75: np.array([0.4, 0.1, 0.2, 0.3]), 0.5: np.array([0.1, 0.2, 0.3, 0.4])}),
    Scores(np.array([0.8, 0.6, 0.0, 0.0]), {0.75: np.array([0.9, 0.8, 0.0, 0.0]), 0.5: np.array([0.9, 0.8, 0.0, 0.0])}),
)
BAR = Bar(threshold=0.35, strict=0.7, per_clip=1)


def test_the_better_half_is_finished_and_its_steps_are_paid() -> None:
    found = replayed(CLIPS, BAR, EarlyConfig(at=(0.75,)), LEVELS)
    assert found.cost == (2 * 4 + 2 * 2) / 16
    assert found.best.tolist() == [0.4, 0.8]
    assert (found.kept.tolist(), found.strict.tolist()) == ([1, 1], [0, 1])


def test_a_guided_step_is_paid_twice() -> None:
    found = replayed(CLIPS, BAR, EarlyConfig(at=(0.75,)), GUIDED)
    assert found.cost == (4 * 4 + 2 * 2) / 24


def test_halving_twice_pays_each_part() -> None:
    found = replayed(CLIPS[:1], BAR, EarlyConfig(at=(0.75, 0.5)), LEVELS)
    assert found.cost == (2 * 4 + 1 * 2 + 1 * 1) / 16
    assert found.best.tolist() == [0.4]  # The first level stopped 1 and 2, the second 0.


def test_a_clip_that_is_given_up_costs_the_steps_until_then() -> None:
    found = replayed(CLIPS, BAR, EarlyConfig(at=(0.75,), least=0.5), LEVELS)
    assert found.cost == pytest.approx((8 / 16 + 12 / 16) / 2)
    assert found.best.tolist() == [0.0, 0.8]


def test_a_level_takes_the_next_preview_below_it() -> None:
    between, at = (replayed(CLIPS, BAR, EarlyConfig(at=(level,)), LEVELS) for level in (0.7, 0.5))
    assert (between.cost, between.best.tolist()) == (at.cost, at.best.tolist())


def test_a_first_pass_is_paid_in_addition() -> None:
    screen = [Scores(np.array([0, 0, 0, 1.0]), {}), Scores(np.array([0, 1.0, 0, 0]), {})]
    found = screened(CLIPS, screen, BAR, keep=0.25, cost=0.3)
    assert found.cost == pytest.approx(0.55)
    assert found.best.tolist() == [0.4, 0.6]


@pytest.mark.parametrize(
    ("cost", "best", "kept"),
    [
        (0.5, [np.mean([0.2, 0.3, 0.4, 0.3, 0.4, 0.4]), np.mean([0.8, 0.8, 0.8, 0.6, 0.6, 0])], [3 / 6, 5 / 6]),
        (0.375, [np.mean([0.25, np.mean([0.2, 0.3, 0.4, 0.3, 0.4, 0.4])]), (0.35 + 3.6 / 6) / 2], [3 / 8, 2 / 3]),
    ],
    ids=["two of four", "between one and two"],
)
def test_fewer_candidates_are_all_choices_of_them(cost: float, best: list[float], kept: list[float]) -> None:
    found = fewer(CLIPS, BAR, cost)
    assert found.best == pytest.approx(best)
    assert found.kept == pytest.approx(kept)


def test_most_kept_of_a_clip() -> None:
    assert full(CLIPS, Bar(0.15, 0.7, per_clip=2)).kept.tolist() == [2, 2]


def test_one_in_ten_reaches_the_strict_threshold() -> None:
    ten = [Scores(np.arange(11.0) / 10, {})]
    assert bar_of(ten, 0.5, 1).strict == pytest.approx(0.9)


def test_the_rank_correlation_is_within_clips() -> None:
    found = rank_correlation(CLIPS, 0.5)
    assert found is not None and found.value == pytest.approx(1.0)
    first = rank_correlation(CLIPS[:1], 0.75)
    assert first is not None and (first.value, first.low) == (pytest.approx(-0.2), None)


def test_the_interval_of_a_ratio_holds_the_extremes_of_two_clips() -> None:
    found = ratio(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    assert (found.value, found.low, found.high) == (pytest.approx(4 / 6), 0.5, 0.75)
