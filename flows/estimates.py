"""What is still to compute, in time, disk and GPU-hours: from what was measured in this store, else by formula."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from flows.stage import StageName
from flows.stages import STAGES
from ipa_core.config import RunConfig
from ipa_core.cost import Network, candidate_flops, gpu_hours, known_network, training_flops
from storage import Action, Store

MODEL_STAGES: tuple[StageName, ...] = ("candidates", "finetune", "evaluation")
"""Stages whose items run the animation model."""


def runs_model(action: Action) -> bool:
    """The weights are among the inputs of an action that computes with them."""
    return "model" in action.inputs


@dataclass(frozen=True)
class Estimate:
    """Of some items of one stage. None: nothing is known."""

    seconds: float | None = None
    """Wall time with the config's workers and GPUs."""
    bytes: int | None = None
    gpu_hours: float | None = None
    """Only of a model whose cost is known (`ipa_core.cost`)."""
    basis: Literal["measured", "formula"] | None = None


class Estimates:
    """``model`` is the digest of the model's weights: only items computed with it say how long others will take."""

    def __init__(self, store: Store, config: RunConfig, model: str | None) -> None:
        self._store = store
        self._config = config
        self._model = model
        self._network = known_network(config)

    def of(self, stage: StageName, count: int) -> Estimate:
        """Of ``count`` items; in a stage that runs the model, of so many that run it."""
        if not count:
            return Estimate()
        seconds, size = self._measured(stage)
        basis: Literal["measured", "formula"] = "measured"
        if seconds is None and self._network is not None and stage in MODEL_STAGES:
            seconds, basis = 3600 * self._gpu_hours(stage, self._network), "formula"
        if seconds is None:
            return Estimate()
        hours = seconds * count / 3600 if self._network is not None and stage in MODEL_STAGES else None
        return Estimate(
            seconds=round(seconds * count / min(count, self._lanes(stage)), 1),
            bytes=None if size is None else round(size * count),
            gpu_hours=None if hours is None else round(hours, 2),
            basis=basis,
        )

    def _measured(self, stage: StageName) -> tuple[float | None, float | None]:
        """Mean seconds and bytes of the stage's items in the store."""
        done = [result for result in self._store.actions.all(stage) if "seconds" in result.provenance]
        if stage in MODEL_STAGES:
            done = [result for result in done if result.action.inputs.get("model") == self._model]
        if not done:
            return None, None
        seconds = fmean(result.provenance["seconds"] for result in done)
        return seconds, fmean(sum(output.size for output in result.outputs.values()) for result in done)

    def _gpu_hours(self, stage: StageName, network: Network) -> float:
        """Of one item, by formula."""
        if stage == "finetune":
            return gpu_hours(training_flops(network, self._config))
        evaluated = stage == "evaluation"
        videos = self._config.evaluation.per_clip if evaluated else self._config.candidates.per_clip
        return videos * gpu_hours(candidate_flops(network, self._config))

    def _lanes(self, stage: StageName) -> int:
        """Items of the stage that are computed at once."""
        if stage in ("candidates", "evaluation"):
            return self._config.execution.gpus
        parallel = {found.NAME for found in STAGES if found.PLACE == "processes"}
        return self._config.execution.workers if stage in parallel else 1
