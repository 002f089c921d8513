"""Estimate the time, disk and GPU-hours of the items to compute, from times measured in this store, else by formula."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

from flows.engine.stage import Stage
from ipa_core.config import RunConfig
from ipa_core.models import known_network
from ipa_core.models.cost import gpu_hours
from storage import ActionResult, Store

SAMPLE: Final = 2000
"""Results of a stage that are read for its mean time: a large store has many more."""


@dataclass(frozen=True)
class Estimate:
    """Estimate for some items of one stage. None: nothing is known."""

    items: float = 0
    """Number of usual items (see `Stage.work`)."""
    seconds: float | None = None
    """Wall time with the config's workers and GPUs."""
    bytes: int | None = None
    gpu_hours: float | None = None
    """Only for a model whose cost is known."""
    basis: Literal["measured", "formula"] | None = None


class Estimates:
    """``model`` is the digest of the model's weights. Times of GPU and training stages count only if they used it."""

    def __init__(self, store: Store, config: RunConfig, model: str | None) -> None:
        self._store = store
        self._config = config
        self._model = model
        known = known_network(config)
        self._network = None if known is None else known[1]

    def of(self, stage: Stage[Any], count: float) -> Estimate:
        """Return the estimate for ``count`` usual items (see `Stage.work`)."""
        if not count:
            return Estimate()
        seconds, size = self._measured(stage)
        flops = None if self._network is None else stage.flops(self._network, self._config)
        basis: Literal["measured", "formula"] = "measured"
        if seconds is None and flops is not None:
            seconds, basis = 3600 * gpu_hours(flops), "formula"
        if seconds is None:
            return Estimate(items=count)
        return Estimate(
            items=count,
            seconds=round(seconds * count / self._lanes(stage, count), 1),
            bytes=None if size is None else round(size * count),
            gpu_hours=None if flops is None else round(seconds * count / 3600, 2),
            basis=basis,
        )

    def _measured(self, stage: Stage[Any]) -> tuple[float | None, float | None]:
        """Return the usual item's mean seconds, summed over its processes, and its mean bytes, both from the store."""
        # The keys are hashes, so the first ones are a fair sample.
        some = list(islice(self._store.actions.keys(stage.name), SAMPLE))
        found = self._store.actions.lookup(stage.name, some).values()
        timed = [result for result in found if "seconds" in result.provenance]
        done = of_model(stage, timed, self._model)
        work = sum(stage.work(result.action) * stage.size_of(result.action) for result in done)
        if not work:
            return None, None
        seconds = sum(_seconds(stage, result) for result in done) / work * stage.usual_size(self._config)
        if stage.place == "train":
            seconds *= self._config.execution.train_processes
        return seconds, usual_bytes(stage, done)

    def _lanes(self, stage: Stage[Any], count: float) -> float:
        """Return the number of processes that ``count`` items of the stage keep busy."""
        execution = self._config.execution
        match stage.place:
            case "cpu":
                return min(count, execution.workers)
            case "gpu":
                return min(count * execution.gpus_per_clip, execution.gpus)
            case "train":
                return execution.train_processes
            case "here":
                return 1


def _seconds(stage: Stage[Any], result: ActionResult) -> float:
    """Return the seconds of an item, summed over the GPUs that made it together."""
    seconds: float = result.provenance["seconds"]
    return seconds * result.provenance.get("processes", 1) if stage.place == "gpu" else seconds


def of_model(stage: Stage[Any], results: Iterable[ActionResult], model: str | None) -> list[ActionResult]:
    """Return the results of a stage that tell about this model: all, if the stage needs none."""
    found = list(results)
    if stage.place not in ("gpu", "train"):
        return found
    return [result for result in found if result.action.inputs.get("model") == model]


def usual_bytes(stage: Stage[Any], results: Sequence[ActionResult]) -> float | None:
    """Return the mean bytes of a stage's usual item; None if nothing is known."""
    work = sum(stage.work(result.action) for result in results)
    return sum(output.size for result in results for output in result.outputs.values()) / work if work else None
