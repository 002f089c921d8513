"""Arms of an experiment against the base model and each other: means over clips and training seeds, with intervals.

An arm is one way to train, run with several training seeds; every run is evaluated on the same clips and noise. A clip
and a training seed are both drawn from something larger, so intervals resample both (Owen, "The pigeonhole bootstrap",
2007). With three training seeds such an interval is rather too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ipa_core.evaluation.bench import METRICS, ClipResult, Interval, Metric
from ipa_core.evaluation.features import distance_from_truth
from ipa_core.evaluation.page import Section, Table
from ipa_core.records import Digest, Record

SHOWN: Final = (
    "ssim",
    "psnr",
    "ssim_hand",
    "psnr_hand",
    "hand_score",
    "confidence",
    "hands_found",
    "fingers",
)
"""Metrics of the table, in its order."""
_BY_NAME: Final = {metric.name: metric for metric in METRICS}
Gains = dict[tuple[str, int], float]
"""By clip and seed of a video, how much better the second is than the first."""


class Run(Record):
    """One training of an arm, evaluated."""

    seed: int
    """Of the training."""
    lora: Digest
    samples: int
    steps: int
    results: tuple[ClipResult, ...]


class Arm(Record):
    """One way to train."""

    name: str
    section: str
    """Heading under which the table has it."""
    settings: tuple[str, ...]
    """What distinguishes it from the sweep's config, as ``alignment.beta=20``."""
    runs: tuple[Run, ...]
    trouble: str | None = None
    """Why there are no runs, or fewer than wanted."""


class Difference(Record):
    """Of one metric between two arms, or an arm and the base; positive is better, whatever the metric."""

    mean: float
    interval: Interval | None
    """95 %, over clips and training seeds; ``None`` with fewer than two clips."""
    win_rate: float
    """Share of the videos that beat their counterpart of the same clip, noise and training seed; ties count half."""
    win_rate_interval: Interval | None


class ArmRow(Record):
    """A line of the table: the arm's means and its differences from the base, by metric."""

    name: str
    section: str
    settings: tuple[str, ...]
    trouble: str | None
    seeds: int
    samples: int | None
    steps: int | None
    drift: float | None
    """Mean; see `ipa_core.evaluation.drift`."""
    means: dict[str, float | None]
    """Also of the distances ``fvd`` and ``fid_vid``, where their extractors are configured."""
    against_base: dict[str, Difference]


class Contrast(Record):
    """One arm against another, by metric."""

    better: str
    worse: str
    """What the names say is expected, not what was found."""
    differences: dict[str, Difference]


class EqualDrift(Record):
    """An arm against what another series of arms would have reached at the same drift, read off between two of its
    points."""

    arm: str
    drift: float
    between: tuple[str, str]
    """The points, of less and of more drift; the first may be ``base``, which has none."""
    differences: dict[str, Difference]


class SweepTable(Record):
    name: str
    clips: int
    videos: int
    """Of each model; with the same noise for all."""
    base: dict[str, float | None]
    rows: tuple[ArmRow, ...]
    contrasts: tuple[Contrast, ...]
    equal_drift: tuple[EqualDrift, ...] = ()


def sweep_table(
    name: str,
    base: Sequence[ClipResult],
    arms: Sequence[Arm],
    contrasts: Sequence[tuple[str, str]],
    equal_drift: tuple[Sequence[str], Sequence[str]] = ((), ()),
    *,
    bootstrap: int = 2000,
) -> SweepTable:
    """Arms against the base, the named pairs of arms against each other, and each of ``equal_drift``'s first arms
    against the series of its second ones. What lacks a run is left out."""
    runs = {arm.name: arm.runs for arm in arms}
    return SweepTable(
        name=name,
        clips=len({result.clip_id for result in base}),
        videos=len(base),
        base=_means([base]),
        rows=tuple(_row(arm, base, bootstrap) for arm in arms),
        contrasts=tuple(
            Contrast(better=one, worse=other, differences=_contrast(runs[one], runs[other], bootstrap))
            for one, other in contrasts
            if runs.get(one) and runs.get(other)
        ),
        equal_drift=_at_equal_drift(base, runs, *equal_drift, bootstrap),
    )


def _row(arm: Arm, base: Sequence[ClipResult], bootstrap: int) -> ArmRow:
    results = [result for run in arm.runs for result in run.results]
    pairs = [(base, run.results) for run in arm.runs]
    return ArmRow(
        name=arm.name,
        section=arm.section,
        settings=arm.settings,
        trouble=arm.trouble,
        seeds=len(arm.runs),
        samples=arm.runs[0].samples if arm.runs else None,
        steps=arm.runs[0].steps if arm.runs else None,
        drift=_mean([result.drift for result in results]),
        means=_means([run.results for run in arm.runs]),
        against_base=differences(pairs, bootstrap),
    )


def _contrast(better: Sequence[Run], worse: Sequence[Run], bootstrap: int) -> dict[str, Difference]:
    """Paired by training seed as far as both have it."""
    others = {run.seed: run for run in worse}
    pairs = [(others[run.seed].results, run.results) for run in better if run.seed in others]
    return differences(pairs, bootstrap)


@dataclass(frozen=True)
class _Point:
    """Of a series: how far the model is moved, and its videos by training seed."""

    name: str
    drift: float
    videos: Mapping[int, Sequence[ClipResult]]


def _at_equal_drift(
    base: Sequence[ClipResult],
    runs: Mapping[str, Sequence[Run]],
    arms: Sequence[str],
    series: Sequence[str],
    bootstrap: int,
) -> tuple[EqualDrift, ...]:
    """Arms whose drift lies beyond the series are left out. Paired by training seed as far as all three have it."""
    seeds = {run.seed for each in runs.values() for run in each}
    points = [_Point("base", 0.0, dict.fromkeys(seeds, base))]
    points += [_point(name, runs[name]) for name in series if runs.get(name)]
    points.sort(key=lambda point: point.drift)
    found = []
    for arm in (_point(name, runs[name]) for name in arms if runs.get(name)):
        for less, more in pairwise(points):
            if less.drift <= arm.drift < more.drift:
                found.append(_between(arm, less, more, bootstrap))
    return tuple(found)


def _point(name: str, runs: Sequence[Run]) -> _Point:
    drift = _mean([result.drift for run in runs for result in run.results])
    return _Point(name, drift or 0.0, {run.seed: run.results for run in runs})


def _between(arm: _Point, less: _Point, more: _Point, bootstrap: int) -> EqualDrift:
    share = (arm.drift - less.drift) / (more.drift - less.drift)
    seeds = sorted(arm.videos.keys() & less.videos.keys() & more.videos.keys())
    told = {}
    for name in SHOWN:
        gains = []
        for seed in seeds:
            over_less, over_more = (
                _gains(_BY_NAME[name], point.videos[seed], arm.videos[seed]) for point in (less, more)
            )
            both = over_less.keys() & over_more.keys()
            gains.append({video: (1 - share) * over_less[video] + share * over_more[video] for video in sorted(both)})
        told[name] = _difference_of(gains, bootstrap)
    return EqualDrift(
        arm=arm.name,
        drift=arm.drift,
        between=(less.name, more.name),
        differences={name: one for name, one in told.items() if one is not None},
    )


def differences(
    pairs: Sequence[tuple[Sequence[ClipResult], Sequence[ClipResult]]], bootstrap: int = 2000
) -> dict[str, Difference]:
    """Of each metric that can be compared; see :func:`difference`."""
    found = {name: difference(_BY_NAME[name], pairs, bootstrap) for name in SHOWN}
    return {name: one for name, one in found.items() if one is not None}


def difference(
    metric: Metric,
    pairs: Sequence[tuple[Sequence[ClipResult], Sequence[ClipResult]]],
    bootstrap: int,
) -> Difference | None:
    """Second minus first of each pair (one for each training seed), in the metric's better direction. ``None`` where no
    video of the two can be compared."""
    return _difference_of([_gains(metric, first, second) for first, second in pairs], bootstrap)


def _difference_of(gains: Sequence[Gains], bootstrap: int) -> Difference | None:
    """Of the gains of each training seed."""
    clips = sorted({clip for gain in gains for clip, _ in gain})
    if not clips:
        return None
    places = {clip: place for place, clip in enumerate(clips)}
    shape = (len(gains), len(clips))
    sums, wins, counts = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for row, gain in enumerate(gains):
        for (clip, _), value in gain.items():
            at = row, places[clip]
            sums[at] += value
            wins[at] += (np.sign(value) + 1) / 2
            counts[at] += 1
    resamples = _resamples(shape, bootstrap) if len(clips) > 1 else None
    return Difference(
        mean=round(float(sums.sum() / counts.sum()), 6),
        interval=_interval(sums, counts, resamples),
        win_rate=round(float(wins.sum() / counts.sum()), 6),
        win_rate_interval=_interval(wins, counts, resamples),
    )


def _gains(metric: Metric, first: Sequence[ClipResult], second: Sequence[ClipResult]) -> Gains:
    """Of the videos that both have."""
    before = {(result.clip_id, result.seed): metric.read(result) for result in first}
    sign = 1.0 if metric.higher_is_better else -1.0
    found: Gains = {}
    for result in second:
        video = (result.clip_id, result.seed)
        old, new = before.get(video), metric.read(result)
        if old is not None and new is not None:
            found[video] = sign * (new - old)
    return found


@dataclass(frozen=True, eq=False)
class _Resamples:
    """How often each training seed ``[B, S]`` and each clip ``[B, C]`` is drawn in each of B resamples."""

    seeds: NDArray[np.float64]
    clips: NDArray[np.float64]


def _resamples(shape: tuple[int, int], count: int) -> _Resamples:
    source = np.random.default_rng(0)
    seeds, clips = (source.multinomial(size, np.full(size, 1 / size), count).astype(float) for size in shape)
    return _Resamples(seeds, clips)


def _interval(sums: NDArray[np.float64], counts: NDArray[np.float64], drawn: _Resamples | None) -> Interval | None:
    if drawn is None:
        return None
    totals = np.einsum("bs,sc,bc->b", drawn.seeds, sums, drawn.clips)
    numbers = np.einsum("bs,sc,bc->b", drawn.seeds, counts, drawn.clips)
    low, high = np.quantile(totals[numbers > 0] / numbers[numbers > 0], [0.025, 0.975])
    return Interval(low=round(float(low), 6), high=round(float(high), 6))


def _means(runs: Sequence[Sequence[ClipResult]]) -> dict[str, float | None]:
    """Over all videos of the runs; of the Frechet distances over the runs, each of which has one."""
    results = [result for run in runs for result in run]
    found = {name: _mean([_BY_NAME[name].read(result) for result in results]) for name in SHOWN}
    found["fvd"] = _mean([distance_from_truth([one.fvd for one in run if one.fvd]) for run in runs])
    found["fid_vid"] = _mean([distance_from_truth([one.fid_vid for one in run if one.fid_vid]) for run in runs])
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return round(float(np.mean(there)), 6) if there else None


def sweep_sections(table: SweepTable) -> tuple[Section, ...]:
    """What was found, for people: a table of means by section, one of differences from the base, one of contrasts."""
    sections = list(dict.fromkeys(row.section for row in table.rows))
    return (
        *(_means_section(table, heading, number == 0) for number, heading in enumerate(sections)),
        Section(
            "Against the base",
            (
                "Mean difference of each arm from the base on the same clips and noise, with its 95 % interval over "
                "clips and training seeds (of an arm with one seed over clips alone, so too narrow), and the share of "
                "videos that beat the base's.",
                Table(
                    ("arm", *_difference_columns()),
                    tuple((row.name, *_cells(row.against_base)) for row in table.rows if row.seeds),
                ),
            ),
        ),
        Section(
            "One arm against another",
            (
                "First minus second, paired by clip, noise and training seed.",
                Table(
                    ("arms", *_difference_columns()),
                    tuple(
                        (f"{contrast.better} − {contrast.worse}", *_cells(contrast.differences))
                        for contrast in table.contrasts
                    ),
                ),
            ),
        ),
        *([_equal_drift_section(table)] if table.equal_drift else []),
    )


COMPARED: Final = ("psnr_hand", "ssim_hand", "hand_score", "fingers", "psnr")
"""Metrics whose differences are written out."""
_DIGITS: Final = {"psnr": 2, "psnr_hand": 2}
_LABELS: Final = {name: _BY_NAME[name].label for name in SHOWN} | {"fvd": "FVD", "fid_vid": "FID-VID"}


def _means_section(table: SweepTable, heading: str, with_base: bool) -> Section:
    rows = [row for row in table.rows if row.section == heading]
    shown = [*SHOWN, *(name for name in ("fvd", "fid_vid") if table.base[name] is not None)]
    cells = [(row.name, *_about(row), *(_number(row.means[name], name) for name in shown)) for row in rows]
    if with_base:
        cells.insert(0, ("base", "", "", "", "0", *(_number(table.base[name], name) for name in shown)))
    columns = ("arm", "seeds", "samples", "steps", "drift", *(_LABELS[name] for name in shown))
    troubles = [f"{row.name}: {row.trouble}" for row in rows if row.trouble]
    return Section(heading, (Table(columns, tuple(cells)), *troubles))


def _equal_drift_section(table: SweepTable) -> Section:
    rows = [
        (one.arm, _percent(one.drift), f"{one.between[0]}, {one.between[1]}", *_cells(one.differences))
        for one in table.equal_drift
    ]
    return Section(
        "At the same drift",
        (
            "Each arm against the straight line between the two points of the other series that have a little less and "
            "a little more drift, paired by clip, noise and training seed.",
            Table(("arm", "drift", "line between", *_difference_columns()), tuple(rows)),
        ),
    )


def _difference_columns() -> list[str]:
    return [f"{_LABELS[name]}: {what}" for name in COMPARED for what in ("difference", "wins")]


def _about(row: ArmRow) -> tuple[str, ...]:
    counts = (row.seeds, row.samples, row.steps)
    return (*("–" if count is None else f"{count:,}" for count in counts), _percent(row.drift))


def _cells(differences: dict[str, Difference]) -> list[str]:
    cells = []
    for name in COMPARED:
        found = differences.get(name)
        cells += ["–", "–"] if found is None else [_difference(found, name), _wins(found)]
    return cells


def _difference(found: Difference, name: str) -> str:
    digits, interval = _DIGITS.get(name, 3), found.interval
    bounds = "" if interval is None else f" ({interval.low:+.{digits}f} to {interval.high:+.{digits}f})"
    return f"{found.mean:+.{digits}f}{bounds}"


def _wins(found: Difference) -> str:
    interval = found.win_rate_interval
    bounds = "" if interval is None else f" ({interval.low:.2f} to {interval.high:.2f})"
    return f"{found.win_rate:.2f}{bounds}"


def _number(value: float | None, name: str) -> str:
    return "–" if value is None else f"{value:.{_DIGITS.get(name, 3)}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
