"""Arms of an experiment against the base and each other."""

from __future__ import annotations

import numpy as np
import pytest

from ipa_core.evaluation.comparison import METRICS, ClipResult
from ipa_core.evaluation.differences import difference, mean_gain
from ipa_core.evaluation.features import FeaturePair
from ipa_core.evaluation.sweep import Arm, EqualDrift, Run, sweep_table
from ipa_core.reporting.page import Chart, Table
from ipa_core.reporting.sweep_page import sweep_sections
from tests.evaluation.material import result

HAND_SCORE = METRICS[0]
CLIPS = [f"clip {number}" for number in range(12)]


def videos(model: str, gain: float = 0.0, noise: float = 0.0, seed: int = 0) -> tuple[ClipResult, ...]:
    """Two videos of each clip."""
    draws = np.random.default_rng(seed).normal(0, 1, (len(CLIPS), 2))
    return tuple(
        result(clip, k, model, 0.3 + 0.01 * place + gain + noise * draws[place, k])
        for place, clip in enumerate(CLIPS)
        for k in range(2)
    )


def arm(name: str, *gains: float, noise: float = 0.0) -> Arm:
    """A run for each gain."""
    runs = tuple(
        Run(seed=seed, lora="0" * 64, samples=8, steps=4, results=videos("aligned", gain, noise, seed))
        for seed, gain in enumerate(gains)
    )
    return Arm(name=name, section="Main", settings=(), runs=runs)


BASE = videos("base")


def test_a_gain_is_the_mean_over_clips_and_training_seeds() -> None:
    row = sweep_table("t", BASE, [arm("a", 0.1, 0.2)], []).rows[0]
    found = row.against_base["hand_score"]
    assert found.mean == pytest.approx(0.15)
    assert row.means["hand_score"] == pytest.approx(0.3 + 0.055 + 0.15)


def test_the_interval_covers_what_training_seeds_disagree_on() -> None:
    alike = sweep_table("t", BASE, [arm("a", 0.1, 0.1, 0.1)], []).rows[0].against_base["hand_score"]
    apart = sweep_table("t", BASE, [arm("a", 0.0, 0.1, 0.2)], []).rows[0].against_base["hand_score"]
    assert alike.interval is not None and apart.interval is not None
    assert alike.interval.high - alike.interval.low < 1e-6
    # Student's t with two degrees of freedom, 4.303, times .1 / sqrt(3).
    assert apart.interval.low == pytest.approx(0.1 - 0.2484, abs=1e-4)
    assert apart.interval.high == pytest.approx(0.1 + 0.2484, abs=1e-4)


def test_the_interval_covers_what_clips_disagree_on() -> None:
    """As wide as theory says: Student's t of twelve clips."""
    pairs = [(BASE, videos("aligned", 0.1, noise=0.05, seed=3))]
    found = difference(HAND_SCORE, pairs, over_seeds=False)
    assert found is not None and found.interval is not None
    gains = np.array([new.score.score - old.score.score for old, new in zip(*pairs[0], strict=True)]).reshape(-1, 2)
    error = gains.mean(axis=1).std(ddof=1) / len(gains) ** 0.5
    assert found.interval.high - found.interval.low == pytest.approx(2 * 2.201 * error, rel=1e-3)


def test_one_clip_gives_no_interval() -> None:
    first = [(BASE[:2], videos("aligned", 0.1)[:2])]
    found = difference(HAND_SCORE, first, over_seeds=False)
    assert found is not None
    assert (found.interval, found.win_rate_interval) == (None, None)


def test_one_training_seed_gives_no_interval_over_seeds() -> None:
    table = sweep_table("t", BASE, [arm("a", 0.1, noise=0.05)])
    found = table.rows[0].against_base["hand_score"]
    assert (found.interval, found.win_rate_interval, found.one_seed) == (None, None, True)
    cell = next(part for part in sweep_sections(table)[1].blocks if isinstance(part, Table)).rows[0][5]
    assert cell.endswith(" (one seed)")


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_spread", [0.0, 0.3, 1.0])
def test_intervals_cover_the_truth(seeds: int, seed_spread: float) -> None:
    """In simulated sweeps of 24 clips whose gains differ by clip, by training seed, and by both."""
    source = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        values = source.normal(0, 1, 24) + source.normal(0, seed_spread, (seeds, 1)) + source.normal(0, 1, (seeds, 24))
        found = mean_gain([{(str(clip), 0): value for clip, value in enumerate(row)} for row in values])
        assert found is not None and found.interval is not None
        covered += found.interval.low <= 0 <= found.interval.high
    assert covered / 600 >= 0.9


def test_less_of_an_error_is_a_gain() -> None:
    error = next(metric for metric in METRICS if metric.name == "error")
    score = BASE[0].score
    worse = BASE[0].model_copy(
        update={"score": score.model_copy(update={"components": score.components.model_copy(update={"error": 9.0})})}
    )
    found = difference(error, [([worse], [BASE[0]])])
    assert found is not None
    assert found.mean > 0 and found.win_rate == 1


def test_arms_are_paired_by_training_seed() -> None:
    """The seed's own luck, which both have, is no difference between them."""
    table = sweep_table("t", BASE, [arm("a", 0.0, 0.5), arm("b", 0.1, 0.6)], [("b", "a")])
    found = table.contrasts[0].differences["hand_score"]
    assert found.mean == pytest.approx(0.1)
    assert found.interval is not None and found.interval.low == pytest.approx(0.1)
    assert found.win_rate == 1


def test_a_contrast_without_runs_is_left_out() -> None:
    failed = Arm(name="b", section="Main", settings=(), runs=(), trouble="seed 0: it failed")
    table = sweep_table("t", BASE, [arm("a", 0.1), failed], [("a", "b")])
    assert table.contrasts == ()
    assert table.rows[1].trouble == "seed 0: it failed"


def drifted(name: str, *runs: tuple[float, float]) -> Arm:
    """A run for each (drift, gain)."""
    made = arm(name, *(gain for _, gain in runs))
    moved = [
        run.model_copy(update={"results": tuple(one.model_copy(update={"drift": drift}) for one in run.results)})
        for run, (drift, _) in zip(made.runs, runs, strict=True)
    ]
    return made.model_copy(update={"runs": tuple(moved)})


def at_equal_drift(one: Arm, *series: Arm) -> EqualDrift:
    names = [other.name for other in series]
    (found,) = sweep_table("t", BASE, [one, *series], (), [one.name], names).equal_drift
    return found


NEAR, FAR = (0.1, 0.03), (0.3, 0.05)


def test_at_equal_drift_an_arm_meets_the_line_between_two_points() -> None:
    """At a drift of 0.15 the line between near and far is at 0.035."""
    found = at_equal_drift(drifted("a", (0.15, 0.1)), drifted("far", FAR), drifted("near", NEAR))
    assert found.gains["hand_score"].mean == pytest.approx(0.1 - 0.035)
    assert (found.seeds, found.drift, found.trouble) == (1, pytest.approx(0.15), None)


def test_at_equal_drift_the_base_is_a_point_of_every_series() -> None:
    found = at_equal_drift(drifted("a", (0.05, 0.1)), drifted("near", NEAR))
    assert found.gains["hand_score"].mean == pytest.approx(0.1 - 0.015)


def test_at_equal_drift_the_last_point_belongs_to_the_series() -> None:
    assert at_equal_drift(drifted("a", FAR), drifted("far", FAR)).gains["hand_score"].mean == pytest.approx(0)


def test_at_equal_drift_every_seed_meets_the_series_of_its_own() -> None:
    found = at_equal_drift(drifted("a", (0.1, 0.1), (0.2, 0.2)), drifted("s", (0.2, 0.1), (0.4, 0.1)))
    assert found.gains["hand_score"].mean == pytest.approx(((0.1 - 0.05) + (0.2 - 0.05)) / 2)
    assert found.seeds == 2


def test_at_equal_drift_what_can_not_be_compared_says_why() -> None:
    found = at_equal_drift(drifted("a", (0.4, 0.1), (0.2, 0.1)), drifted("far", FAR, FAR), drifted("near", NEAR))
    assert (found.seeds, found.gains) == (0, {})
    assert found.trouble == (
        "seed 0: its drift of 40.0% is beyond the series' 30.0%; seed 1: not all of the series were trained with it"
    )


def test_the_page_names_arms_and_troubles() -> None:
    failed = Arm(name="b", section="Main", settings=(), runs=(), trouble="seed 0: it failed")
    table = sweep_table("t", BASE, [arm("a", 0.1), failed], [])
    means, against = sweep_sections(table)
    assert [row[0] for row in means.blocks[0].rows] == ["base", "a", "b"]  # type: ignore[union-attr]
    assert means.blocks[1] == "b: seed 0: it failed"
    assert isinstance(against.blocks[1], Chart)
    assert [row[0] for row in against.blocks[2].rows] == ["a"]  # type: ignore[union-attr]


def test_the_page_says_what_is_not_compared_at_equal_drift() -> None:
    arms = [drifted("a", (0.4, 0.1)), drifted("b", (0.2, 0.1)), drifted("far", FAR)]
    section = sweep_sections(sweep_table("t", BASE, arms, (), ["a", "b"], ["far"]))[-1]
    _, table, trouble = section.blocks
    assert [row[:3] for row in table.rows] == [("b", "1", "20.0%")]  # type: ignore[union-attr]
    assert trouble == "a: seed 0: its drift of 40.0% is beyond the series' 30.0%"


def test_a_feature_distance_is_shown_where_it_was_computed() -> None:
    """Of features that are off by a constant: its square."""
    source = np.random.default_rng(0)

    def off(results: tuple[ClipResult, ...], by: float) -> tuple[ClipResult, ...]:
        truths = source.normal(size=(len(results), 2))
        return tuple(
            one.model_copy(update={"fvd": FeaturePair(generated=tuple(truth + np.array([by, 0])), truth=tuple(truth))})
            for one, truth in zip(results, truths, strict=True)
        )

    run = arm("a", 0.1).runs[0]
    moved = arm("a").model_copy(update={"runs": (run.model_copy(update={"results": off(run.results, 1.0)}),)})
    table = sweep_table("t", off(BASE, 2.0), [moved], [])
    assert (table.base["fvd"], table.rows[0].means["fvd"]) == pytest.approx((4.0, 1.0), abs=1e-5)
    columns = sweep_sections(table)[0].blocks[0].columns  # type: ignore[union-attr]
    assert "FVD" in columns and "FID-VID" not in columns
