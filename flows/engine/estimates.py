"""What is still to compute, in time, disk and GPU-hours: from what was measured in this store, else by formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flows.engine.stage import Place, StageName
from flows.stages import STAGES, references
from ipa_core.config import RunConfig
from ipa_core.models.wan_vace.cost import (
    Network,
    candidate_flops,
    forward_flops,
    gpu_hours,
    known_network,
    training_flops,
)
from storage import Action, Store

PLACES: dict[StageName, Place] = {stage.NAME: stage.PLACE for stage in STAGES}
MODEL_STAGES = {stage for stage, place in PLACES.items() if place in ("gpu", "train")}
"""Stages whose items run the animation model."""


def runs_model(action: Action) -> bool:
    """The weights are among the inputs of an action that computes with them."""
    return "model" in action.inputs


def work_of(action: Action) -> float:
    """How much of the stage's usual item it is: the last draws of a sample may be few."""
    return references.draws(action) / references.EPOCHS if action.stage == references.NAME else 1.0


@dataclass(frozen=True)
class Estimate:
    """Of some items of one stage. None: nothing is known."""

    seconds: float | None = None
    """Wall time with the config's workers and GPUs."""
    bytes: int | None = None
    gpu_hours: float | None = None
    """Only of a model whose cost is known (`ipa_core.models.wan_vace.cost`)."""
    basis: Literal["measured", "formula"] | None = None


class Estimates:
    """``model`` is the digest of the model's weights: only items computed with it say how long others will take."""

    def __init__(self, store: Store, config: RunConfig, model: str | None) -> None:
        self._store = store
        self._config = config
        self._model = model
        self._network = known_network(config)

    def of(self, stage: StageName, count: float) -> Estimate:
        """Of ``count`` usual items (:func:`work_of`); in a stage that runs the model, of so many that run it."""
        if not count:
            return Estimate()
        seconds, size = self._measured(stage)
        basis: Literal["measured", "formula"] = "measured"
        if seconds is None and self._network is not None and stage in MODEL_STAGES:
            seconds, basis = 3600 * self._gpu_hours(stage, self._network), "formula"
        if seconds is None:
            return Estimate()
        priced = self._network is not None and stage in MODEL_STAGES
        return Estimate(
            seconds=round(seconds * count / self._lanes(stage, count), 1),
            bytes=None if size is None else round(size * count),
            gpu_hours=round(seconds * count / 3600, 2) if priced else None,
            basis=basis,
        )

    def _measured(self, stage: StageName) -> tuple[float | None, float | None]:
        """Mean seconds, of all processes that worked on one, and bytes of the stage's usual item in the store."""
        done = [result for result in self._store.actions.all(stage) if "seconds" in result.provenance]
        if stage in MODEL_STAGES:
            done = [result for result in done if result.action.inputs.get("model") == self._model]
        if not done:
            return None, None
        work = sum(work_of(result.action) for result in done)
        seconds = sum(result.provenance["seconds"] for result in done) / work
        if PLACES[stage] == "train":
            seconds *= self._config.execution.train_processes
        return seconds, sum(output.size for result in done for output in result.outputs.values()) / work

    def _gpu_hours(self, stage: StageName, network: Network) -> float:
        """Of one item, by formula."""
        if stage == "finetune":
            return gpu_hours(training_flops(network, self._config))
        if stage == "references":
            return references.EPOCHS * gpu_hours(forward_flops(network, self._config.clips))
        evaluated = stage == "evaluation"
        videos = self._config.evaluation.per_clip if evaluated else self._config.candidates.per_clip
        return videos * gpu_hours(candidate_flops(network, self._config))

    def _lanes(self, stage: StageName, count: float) -> float:
        """Processes that ``count`` items of the stage keep busy."""
        execution = self._config.execution
        match PLACES[stage]:
            case "cpu":
                return min(count, execution.workers)
            case "gpu":
                return min(count, execution.gpus)
            case "train":
                return execution.train_processes
            case "here":
                return 1
