"""The frozen model's errors for the draws that the training will make, computed ahead by the GPU workers.

An item is one sample and the draws of a few epochs. Its key holds the settings that change the draws or the frozen
model's prediction. It holds neither beta nor the hand weight nor the weight of t nor anything of the LoRA, so
trainings that differ in those share the item. The training computes missing errors itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from flows.engine.plan import Forecast
from flows.engine.stage import Item, Output, Stage
from flows.engine.view import View
from flows.engine.worker import Worker
from flows.stages.scores import Scores
from flows.stages.selection import kept_samples
from flows.stages.shards import Shards
from ipa_core.alignment.visits import epochs_of_run, label_of
from ipa_core.config import RunConfig
from ipa_core.models import Network
from ipa_core.records import PoseSequence, PreferenceSample, ReferenceErrors
from storage import Action

EPOCHS: Final = 8
"""Epochs whose draws an item has: some minutes of work for the largest models."""


class References(Stage[ReferenceErrors]):
    name = "references"
    version = 1
    place = "gpu"
    section = "alignment"
    fields: ClassVar[Mapping[str, str]] = {"model": "candidates.model", "epochs": "alignment.steps"}
    record = ReferenceErrors

    def items(self, run: View) -> Iterator[Item]:
        alignment = run.config.alignment
        if not alignment.uses_reference_table or run.one(Shards) is None:
            return
        samples = kept_samples(run)
        # A shard may exist although its sources are gone (`execution.retention`). They are not made again for this,
        # because the training computes missing errors.
        gone = run.store.objects.missing({digest for one in samples for digest in _parts(one, run.config).values()})
        names = {item.action.key: item.name for item, _ in run.done(Scores)}
        digests, labels = [one.latents for one in samples], [label_of(one) for one in samples]
        for sample, epochs in zip(samples, epochs_of_run(alignment, digests, labels), strict=True):
            parts = _parts(sample, run.config)
            for block in () if gone.intersection(parts.values()) else _blocks(epochs):
                settings = _settings(run.config) | {"epochs": [block.start, block.stop]}
                if alignment.noise == "own":
                    settings["noise"] = sample.seed
                inputs = {"model": run.inputs.model_weights, **parts}
                yield Item(
                    name=f"{names[sample.score_action]}, epochs {block.start} to {block.stop - 1}",
                    action=Action(self.name, self.version, settings, inputs),
                    parents=(sample.candidate_action,),
                    needs=tuple(parts.values()),
                )

    def compute(self, item: Item, worker: Worker) -> Output:
        from ipa_core.alignment.data import TrainingSample, prepare
        from ipa_core.alignment.reference import reference_errors
        from ipa_core.models.conditioning import Conditioning
        from ipa_core.models.latents import latents_from_bytes

        inputs, objects, config = item.action.inputs, worker.store.objects, worker.config.alignment
        sample = TrainingSample(
            key=item.name,
            digest=inputs["latents"],
            latents=latents_from_bytes(objects.get(inputs["latents"])),
            conditioning=Conditioning.from_bytes(objects.get(inputs["conditioning"])),
            pose=PoseSequence.from_bytes(objects.get(inputs["pose"])),
            video=objects.get(inputs["video"]) if "video" in inputs else b"",
            driving=objects.get(inputs["driving"]) if "driving" in inputs else None,
            group=inputs["conditioning"],
            seed=item.action.config.get("noise"),
        )
        model = worker.model(all_bits=True)
        # One draw at a time fits into memory wherever a candidate does.
        return Output(reference_errors(model, prepare(sample, model, config), _epochs(item.action), config))

    def forecast(self, run: Forecast) -> float:
        alignment = run.view.config.alignment
        unknown = alignment.uses_reference_table and run.view.one(Shards) is None
        return alignment.steps * alignment.batch_size / EPOCHS if unknown else 0

    def work(self, action: Action) -> float:
        return len(_epochs(action)) / EPOCHS

    def flops(self, network: Network, config: RunConfig) -> float:
        return EPOCHS * network.forward_flops(config)


def _parts(sample: PreferenceSample, config: RunConfig) -> dict[str, str]:
    """Return the digests of the objects that are read, by name."""
    parts = {"latents": sample.latents, "conditioning": sample.conditioning, "pose": sample.pose}
    if config.alignment.latents == "reencoded":
        parts["video"] = sample.video
    if sample.driving is not None:
        parts["driving"] = sample.driving
    return parts


def _blocks(epochs: int) -> Iterator[range]:
    for start in range(0, epochs, EPOCHS):
        yield range(start, min(start + EPOCHS, epochs))


def _epochs(action: Action) -> range:
    return range(*action.config["epochs"])


def _settings(config: RunConfig) -> dict[str, Any]:
    alignment = config.alignment
    settings = alignment.model_dump(mode="json", include={"seed", "timesteps", "latents", "mask_time", "dtype"})
    if alignment.timesteps == "shifted":
        settings["timestep_shift"] = alignment.timestep_shift
    if alignment.learns_from_losers:
        settings["draws"] = "conditioning"
    if alignment.experts != "low":  # A later field, which decides where t is drawn.
        settings["experts"] = alignment.experts
    return {**settings, "model": {"dtype": config.candidates.model.dtype}}
