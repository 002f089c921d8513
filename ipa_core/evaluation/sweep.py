"""Compare the arms of an experiment with the base model, with each other, and with each other at the same drift.

An arm is one way to train, run with several training seeds. Every run is evaluated on the same clips and noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from ipa_core.evaluation.comparison import ClipResult
from ipa_core.evaluation.differences import BY_NAME, SHOWN, Difference, Gain, Gains, differences, gains, mean, mean_gain
from ipa_core.evaluation.features import distance_from_truth
from ipa_core.records import Digest, Record


class Run(Record):
    """One evaluated training of an arm."""

    seed: int
    """Seed of the training."""
    lora: Digest
    samples: int
    steps: int
    results: tuple[ClipResult, ...]

    @property
    def drift(self) -> float | None:
        """Mean over the videos; see `ipa_core.evaluation.drift`. ``None``: not measured."""
        measured = [result.drift for result in self.results if result.drift is not None]
        return sum(measured) / len(measured) if measured else None


class Arm(Record):
    """One way to train."""

    name: str
    section: str
    """The arm's heading in the table."""
    settings: tuple[str, ...]
    """Settings that differ from the sweep's config, as ``alignment.beta=20``."""
    runs: tuple[Run, ...]
    trouble: str | None = None
    """The reason if runs are missing."""


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
    means: dict[str, float | None]
    """With the distances ``fvd`` and ``fid_vid``, which are ``None`` without their extractors."""
    against_base: dict[str, Difference]


class Contrast(Record):
    """One arm against another, by metric."""

    better: str
    worse: str
    """The names say the expectation, not the result."""
    differences: dict[str, Difference]


class EqualDrift(Record):
    """An arm against a series of others at the same drift, by metric.

    The series' value lies on the straight line between its two points nearest in drift; the base is a point without
    drift. Where its gains flatten out, that line lies too low, so a small lead over it shows nothing.
    """

    arm: str
    seeds: int
    """Number of training seeds that could be compared, each with the series of the same seed."""
    drift: float | None
    """Mean drift of these."""
    gains: dict[str, Gain]
    trouble: str | None
    """The reason if seeds are missing."""


class SweepTable(Record):
    name: str
    clips: int
    videos: int
    """Videos of each model, with the same noise for all."""
    base: dict[str, float | None]
    rows: tuple[ArmRow, ...]
    contrasts: tuple[Contrast, ...]
    equal_drift: tuple[EqualDrift, ...]


def sweep_table(
    name: str,
    base: Sequence[ClipResult],
    arms: Sequence[Arm],
    contrasts: Sequence[tuple[str, str]] = (),
    equal_drift: Sequence[str] = (),
    series: Sequence[str] = (),
) -> SweepTable:
    """Compare arms with the base, the pairs ``contrasts`` with each other if both have runs, and the arms
    ``equal_drift`` with ``series`` at the same drift."""
    runs = {arm.name: arm.runs for arm in arms}
    return SweepTable(
        name=name,
        clips=len({result.clip_id for result in base}),
        videos=len(base),
        base=_means([base]),
        rows=tuple(_row(arm, base) for arm in arms),
        contrasts=tuple(
            Contrast(better=one, worse=other, differences=_contrast(runs[one], runs[other]))
            for one, other in contrasts
            if runs[one] and runs[other]
        ),
        equal_drift=tuple(
            _at_equal_drift(arm, base, runs[arm], [runs[other] for other in series]) for arm in equal_drift
        ),
    )


def _row(arm: Arm, base: Sequence[ClipResult]) -> ArmRow:
    pairs = [(base, run.results) for run in arm.runs]
    return ArmRow(
        name=arm.name,
        section=arm.section,
        settings=arm.settings,
        trouble=arm.trouble,
        seeds=len(arm.runs),
        samples=arm.runs[0].samples if arm.runs else None,
        steps=arm.runs[0].steps if arm.runs else None,
        drift=mean([run.drift for run in arm.runs]),
        means=_means([run.results for run in arm.runs]),
        against_base=differences(pairs),
    )


def _contrast(better: Sequence[Run], worse: Sequence[Run]) -> dict[str, Difference]:
    """Compare the runs with training seeds that both arms have."""
    others = {run.seed: run for run in worse}
    pairs = [(others[run.seed].results, run.results) for run in better if run.seed in others]
    return differences(pairs)


class _Point(NamedTuple):
    drift: float
    videos: Sequence[ClipResult]


def _at_equal_drift(
    arm: str, base: Sequence[ClipResult], runs: Sequence[Run], series: Sequence[Sequence[Run]]
) -> EqualDrift:
    by_seed: Mapping[int, list[_Point]] = {run.seed: [_Point(0.0, base)] for run in runs}
    for others in series:
        for other in others:
            if other.seed in by_seed:
                by_seed[other.seed].append(_Point(other.drift or 0.0, other.results))
    compared: list[Run] = []
    found: dict[str, list[Gains]] = {name: [] for name in SHOWN}
    troubles = [] if runs else ["it has no run"]
    for run in runs:
        points = sorted(by_seed[run.seed], key=lambda point: point.drift)
        if run.drift is None:
            troubles.append(f"seed {run.seed}: its evaluation adds LoRAs or animates others, so it has no drift")
        elif len(points) <= len(series):
            troubles.append(f"seed {run.seed}: not all of the series were trained with it")
        elif run.drift > points[-1].drift:
            troubles.append(
                f"seed {run.seed}: its drift of {run.drift:.1%} is beyond the series' {points[-1].drift:.1%}"
            )
        else:
            compared.append(run)
            for name, each in found.items():
                each.append(_over_the_line(name, run.results, run.drift, points))
    told = {name: mean_gain(each) for name, each in found.items()}
    return EqualDrift(
        arm=arm,
        seeds=len(compared),
        drift=mean([run.drift for run in compared]),
        gains={name: gain for name, gain in told.items() if gain is not None},
        trouble="; ".join(troubles) or None,
    )


def _over_the_line(metric: str, videos: Sequence[ClipResult], drift: float, points: Sequence[_Point]) -> Gains:
    """Return each video's gain over the line between the points on both sides of its run's drift."""
    less, more = next(pair for pair in pairwise(points) if pair[1].drift >= drift)
    share = (drift - less.drift) / (more.drift - less.drift) if more.drift > less.drift else 1.0
    over_less, over_more = (gains(BY_NAME[metric], point.videos, videos) for point in (less, more))
    both = sorted(over_less.keys() & over_more.keys())
    return {video: (1 - share) * over_less[video] + share * over_more[video] for video in both}


def _means(runs: Sequence[Sequence[ClipResult]]) -> dict[str, float | None]:
    """Return means over all videos of the runs; for the Frechet distances over the runs, each of which has one."""
    results = [result for run in runs for result in run]
    found = {name: mean([BY_NAME[name].read(result) for result in results]) for name in SHOWN}
    found["fvd"] = mean([distance_from_truth([one.fvd for one in run if one.fvd]) for run in runs])
    found["fid_vid"] = mean([distance_from_truth([one.fid_vid for one in run if one.fid_vid]) for run in runs])
    return found
