"""Compare two models on the same clips and seeds, base or champion with aligned: paired differences and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import SerializerFunctionWrapHandler, model_serializer

from ipa_core.evaluation.features import FeaturePair, FrechetComparison, compare_frechet
from ipa_core.evaluation.look import Look
from ipa_core.evaluation.metrics import VideoMetrics
from ipa_core.evaluation.second_judge import NAME as SECOND_JUDGE_NAME
from ipa_core.records import HandScore, Record

FOUND: Final = 0.5
"""Confidence from which a hand counts as found."""
Model = Literal["base", "aligned", "champion"]
"""``aligned`` is the adapter under test; it is compared with ``base`` and with ``champion``."""
_LATER: Final = frozenset({"look", "second_judge"})
"""Entries that came later and are left out where there is none."""
Finding = Literal["better", "no difference shown", "worse", "nothing to compare"]


class ClipResult(Record):
    """One generated video of a held-out clip, with its measures."""

    clip_id: str
    seed: int
    model: Model
    metrics: VideoMetrics | None
    """``None``: there is no true video, because another person was animated; then ``look`` is ``None`` too."""
    score: HandScore
    hands_found: float | None = None
    """Share of the scored (frame, hand) pairs whose hand has a confidence of at least :data:`FOUND`, in [0, 1]."""
    drift: float | None = 0.0
    """See `ipa_core.evaluation.drift`; 0 for the base. ``None``: not measured, because other LoRAs were added, or the
    video has no true one."""
    fvd: FeaturePair | None = None
    """``None``: no extractor configured."""
    fid_vid: FeaturePair | None = None
    look: Look | None = None
    """``None``: an earlier version evaluated the video. Its JSON has no such entry, so that keys stay as they were."""
    second_judge: float | None = None
    """See `ipa_core.evaluation.second_judge`. ``None``: there was none, or no hand to judge; then no entry either."""

    @property
    def lacks_look(self) -> bool:
        return self.look is None and self.metrics is not None

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = write(self)
        return {name: value for name, value in found.items() if value is not None or name not in _LATER}


class Interval(Record):
    """95 % bootstrap interval over clips."""

    low: float
    high: float


class MetricComparison(Record):
    """One metric over the pairs where both models have it. Numbers are ``None`` without such a pair."""

    name: str
    label: str
    higher_is_better: bool
    pairs: int
    clips: int
    base: float | None
    aligned: float | None
    difference: float | None
    """Mean of aligned - base over the pairs."""
    difference_interval: Interval | None
    win_rate: float | None
    """Share of the pairs in which the aligned model is better; ties count half."""
    win_rate_interval: Interval | None
    no_interval: str | None
    """The reason if there are no intervals."""


class ClipChange(Record):
    """Hand score of one clip; means over its pairs."""

    clip_id: str
    base: float
    aligned: float
    difference: float


class Comparison(Record):
    metrics: tuple[MetricComparison, ...]
    """The hand score comes first."""
    by_clip: tuple[ClipChange, ...]
    """Clips with a hand score, by clip id."""
    fvd: FrechetComparison
    fid_vid: FrechetComparison
    clips: int
    pairs: int
    unpaired: int
    """Results whose counterpart of the other model is missing."""
    unscorable_base: int
    """Number of the pairs' videos without a hand score."""
    unscorable_aligned: int
    degenerate_base: int = 0
    """Number of the pairs' videos that show nothing. They have no score, and count as 0: their model lost the pair."""
    degenerate_aligned: int = 0
    drift: float | None
    """Drift of the aligned model from its base, mean over the pairs; see `ipa_core.evaluation.drift`."""
    verdict: Finding
    """About the hand score: ``better`` or ``worse`` only if the interval leaves zero out."""
    sentence: str
    """The verdict with its numbers, for people."""

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = write(self)
        return {name: value for name, value in found.items() if value or not name.startswith("degenerate_")}


def hands_found(score: HandScore) -> float | None:
    """Return :attr:`ClipResult.hands_found`; ``score`` must have its single frames."""
    scored = [hand.confidence >= FOUND for hand in score.hands if hand.unscorable is None]
    return round(sum(scored) / len(scored), 6) if scored else None


@dataclass(frozen=True)
class Metric:
    name: str
    label: str
    read: Callable[[ClipResult], float | None]
    higher_is_better: bool = True


def _kept(name: str) -> Callable[[ClipResult], float | None]:
    """Return the reader of a value of :class:`Look`, cut at 1: more than the true video has is no gain."""

    def read(result: ClipResult) -> float | None:
        value: float | None = None if result.look is None else getattr(result.look, name)
        return None if value is None else min(value, 1.0)

    return read


def _picture(name: str) -> Callable[[ClipResult], float | None]:
    def read(result: ClipResult) -> float | None:
        return None if result.metrics is None else getattr(result.metrics, name)

    return read


def hand_score(result: ClipResult) -> float | None:
    """Return a video's hand score, 0 where it shows nothing: the driving hands could be scored, the model failed."""
    return 0.0 if result.score.degenerate else result.score.score


METRICS: Final = (
    Metric("hand_score", "hand score", hand_score),
    Metric("confidence", "hand confidence", lambda result: result.score.components.confidence),
    Metric("hands_found", "hands found", lambda result: result.hands_found),
    Metric("pck", "PCK to the driving hand", lambda result: result.score.components.pck),
    Metric("error", "normalised hand error", lambda result: result.score.components.error, False),
    Metric("bone_consistency", "bone consistency", lambda result: result.score.components.bone_consistency),
    Metric("jitter", "hand jitter", lambda result: result.score.components.jitter, False),
    Metric("fingers", "fingers (network)", lambda result: result.score.components.fingers),
    Metric("psnr_hand", "PSNR-Hand (dB)", _picture("psnr_hand")),
    Metric("ssim_hand", "SSIM-Hand", _picture("ssim_hand")),
    Metric("psnr", "PSNR (dB)", _picture("psnr")),
    Metric("ssim", "SSIM", _picture("ssim")),
    Metric("sharpness_hand", "sharpness of hands kept", _kept("sharpness_hand")),
    Metric("sharpness", "sharpness kept", _kept("sharpness")),
    Metric("contrast_hand", "contrast of hands kept", _kept("contrast_hand")),
    Metric("contrast", "contrast kept", _kept("contrast")),
    Metric("saturation_hand", "saturation of hands kept", _kept("saturation_hand")),
    Metric("saturation", "saturation kept", _kept("saturation")),
    Metric("motion_hand", "speed of hands kept", _kept("motion_hand")),
    Metric("motion", "speed kept", _kept("motion")),
)
"""*Kept*: share of what the true video has, at most 1 (`ipa_core.evaluation.look`)."""
SECOND_JUDGE: Final = Metric("second_judge", SECOND_JUDGE_NAME, lambda result: result.second_judge)
"""Compared where a video has it. Neither selection nor promotion reads it."""


def compare(
    base: Sequence[ClipResult], aligned: Sequence[ClipResult], *, bootstrap: int, seed: int = 0, against: str = "base"
) -> Comparison:
    """Pair the results by (clip, seed) and compare every metric. The sentence calls ``base`` by the name ``against``.

    Intervals are percentiles of ``bootstrap`` resamples of the clips, because seeds of one clip are no independent
    trials. The same input in any order gives the same intervals. With few clips they are somewhat too narrow.
    """
    first = {(result.clip_id, result.seed): result for result in base}
    second = {(result.clip_id, result.seed): result for result in aligned}
    pairs = [(first[position], second[position]) for position in sorted(first.keys() & second.keys())]
    judged = any(result.second_judge is not None for pair in pairs for result in pair)
    compared = (*METRICS, SECOND_JUDGE) if judged else METRICS
    metrics = tuple(compare_metric(metric, pairs, bootstrap, seed) for metric in compared)
    verdict = _finding(metrics[0])
    nothing = [sum(pair[side].score.degenerate for pair in pairs) for side in (0, 1)]
    return Comparison(
        metrics=metrics,
        by_clip=_changes(pairs),
        fvd=_frechet(pairs, "fvd"),
        fid_vid=_frechet(pairs, "fid_vid"),
        clips=len({one.clip_id for one, _ in pairs}),
        pairs=len(pairs),
        unpaired=len(first.keys() ^ second.keys()),
        unscorable_base=sum(hand_score(one) is None for one, _ in pairs),
        unscorable_aligned=sum(hand_score(other) is None for _, other in pairs),
        degenerate_base=nothing[0],
        degenerate_aligned=nothing[1],
        drift=_mean(np.array([other.drift for _, other in pairs if other.drift is not None])),
        verdict=verdict,
        sentence=_sentence(metrics[0], verdict, against) + _degenerate(nothing[0], nothing[1], against),
    )


def compare_metric(
    metric: Metric, pairs: Sequence[tuple[ClipResult, ClipResult]], bootstrap: int, seed: int
) -> MetricComparison:
    """Compare one metric over the pairs in which both videos have it."""
    read = [(one.clip_id, metric.read(one), metric.read(other)) for one, other in pairs]
    measured = [(clip, one, other) for clip, one, other in read if one is not None and other is not None]
    clips = np.array([clip for clip, _, _ in measured])
    values = np.array([[one, other] for _, one, other in measured], np.float64).reshape(-1, 2)
    difference = values[:, 1] - values[:, 0]
    gain = np.sign(difference if metric.higher_is_better else -difference)
    count = len(set(clips))
    by_clip = count >= 2
    return MetricComparison(
        name=metric.name,
        label=metric.label,
        higher_is_better=metric.higher_is_better,
        pairs=len(values),
        clips=count,
        base=_mean(values[:, 0]),
        aligned=_mean(values[:, 1]),
        difference=_mean(difference),
        difference_interval=clip_bootstrap(difference, clips, bootstrap, seed) if by_clip else None,
        win_rate=_mean((gain + 1) / 2),
        win_rate_interval=clip_bootstrap((gain + 1) / 2, clips, bootstrap, seed) if by_clip else None,
        no_interval=None if by_clip else ("nothing was measured" if count == 0 else "an interval needs two clips"),
    )


def _frechet(pairs: Sequence[tuple[ClipResult, ClipResult]], name: str) -> FrechetComparison:
    true = [(one, other) for one, other in pairs if one.metrics is not None]
    if pairs and not true:
        return FrechetComparison(base=None, aligned=None, videos=0, reason="not computed: there is no true video")
    return compare_frechet([(getattr(one, name), getattr(other, name)) for one, other in true])


def _changes(pairs: Sequence[tuple[ClipResult, ClipResult]]) -> tuple[ClipChange, ...]:
    scores: dict[str, list[tuple[float, float]]] = {}
    for one, other in pairs:
        before, after = hand_score(one), hand_score(other)
        if before is not None and after is not None:
            scores.setdefault(one.clip_id, []).append((before, after))
    means = {clip: np.mean(both, axis=0).round(6).tolist() for clip, both in sorted(scores.items())}
    return tuple(
        ClipChange(clip_id=clip, base=base, aligned=aligned, difference=round(aligned - base, 6))
        for clip, (base, aligned) in means.items()
    )


def clip_bootstrap(values: NDArray[np.float64], clips: NDArray[np.str_], resamples: int, seed: int) -> Interval:
    """Return the interval of the mean of ``values [N]`` when their clips ``[N]`` are drawn again with replacement.

    Source: the cluster bootstrap of Field and Welsh, "Bootstrapping clustered data" (2007).
    """
    _, position = np.unique(clips, return_inverse=True)
    counts = np.bincount(position)
    sums = np.bincount(position, weights=values)
    drawn = np.random.default_rng(seed).integers(len(counts), size=(resamples, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(low=round(float(low), 6), high=round(float(high), 6))


def _finding(hand_score: MetricComparison) -> Finding:
    interval = hand_score.difference_interval
    if hand_score.pairs == 0:
        return "nothing to compare"
    if interval is not None and interval.low > 0:
        return "better"
    if interval is not None and interval.high < 0:
        return "worse"
    return "no difference shown"


def _sentence(hand_score: MetricComparison, verdict: Finding, against: str) -> str:
    metric, interval = hand_score, hand_score.difference_interval
    if metric.base is None or metric.aligned is None or metric.difference is None or metric.win_rate is None:
        return f"Hands, aligned against {against}: nothing to compare, no pair of videos has a hand score."
    bounds = f"95 % interval {interval.low:+.3f} to {interval.high:+.3f}" if interval else f"{metric.no_interval}"
    return (
        f"Hands, aligned against {against}: {verdict}. Hand score {metric.base:.3f} -> {metric.aligned:.3f}, "
        f"{metric.difference:+.3f} ({bounds}); aligned wins {metric.win_rate:.0%} of {_count(metric.pairs, 'pair')} "
        f"on {_count(metric.clips, 'clip')}."
    )


def _degenerate(base: int, aligned: int, against: str) -> str:
    if not base and not aligned:
        return ""
    return f" Degenerate videos count as 0: {base} of {against}, {aligned} of aligned."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _mean(values: NDArray[np.float64]) -> float | None:
    return round(float(values.mean()), 6) if len(values) else None
