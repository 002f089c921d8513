"""The part of a LoRA's model card that its evaluation adds."""

from __future__ import annotations

from collections.abc import Sequence

from ipa_core.evaluation.comparison import Comparison, MetricComparison
from ipa_core.evaluation.preferences import Preferred


def evaluation_card(
    comparison: Comparison, sampled: str | None = None, people: Sequence[Preferred] = (), judges: str | None = None
) -> str:
    """Return Markdown: the verdict and a table of the base model against the LoRA on held-out clips, and what people
    prefer. ``sampled``: how both were sampled, if that must be said. ``judges``: who chose and who judged."""
    said = f"\nBoth were sampled {sampled}.\n" if sampled else ""
    said += "".join(f"\nBlind comparison: {one.sentence}.\n" for one in people[:1])
    said += f"\n{judges}.\n" if judges else ""
    said += "".join(f"\n{_second(metric)}\n" for metric in comparison.metrics if metric.name == "second_judge")
    rows = [_row(metric) for metric in comparison.metrics if metric.pairs]
    table = "\n".join(["| metric | base | with this LoRA | difference |", "|---|---|---|---|", *rows])
    return (
        f"\n## Evaluation\n\n{comparison.sentence}\n\n{table}\n\nMeans over {comparison.pairs} pairs of videos of "
        f"{comparison.clips} held-out clips. *Kept*: share of what the true video has, at most 1.\n{said}"
    )


def _row(metric: MetricComparison) -> str:
    assert metric.base is not None and metric.aligned is not None and metric.difference is not None
    better = "" if metric.higher_is_better else " (lower is better)"
    return f"| {metric.label}{better} | {metric.base:.3f} | {metric.aligned:.3f} | {metric.difference:+.3f} |"


def _second(metric: MetricComparison) -> str:
    """Return the sentence of the second judge."""
    wins, gain = metric.win_rate_interval, metric.difference_interval
    if metric.win_rate is None or metric.difference is None:
        return f"The {metric.label}: {metric.no_interval}."
    shown = "" if gain is None else f" (95 % interval {gain.low:+.3f} to {gain.high:+.3f})"
    won = "" if wins is None else f" (95 % interval {wins.low:.0%} to {wins.high:.0%})"
    return (
        f"The {metric.label}: {metric.difference:+.3f}{shown}, the LoRA wins {metric.win_rate:.0%}{won} of the pairs."
    )
