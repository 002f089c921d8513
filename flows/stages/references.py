"""Errors of the reference model for the draws that the training will make, computed ahead on the GPU workers.

An item is one sample and the draws of a few epochs. Its key holds what changes the draws or the reference's prediction,
and neither beta nor the hand weight nor anything of the LoRA: trainings that differ in those share it. What a training
finds no error for, it computes itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flows.engine.stage import Inputs, Item, Output, Results, StageItems
from flows.engine.workbench import Workbench
from flows.stages.shards import kept_samples
from ipa_core.alignment.visits import epochs_of_run
from ipa_core.config import RunConfig
from ipa_core.records import PoseSequence, PreferenceSample
from storage import Action

NAME: Final = "references"
VERSION: Final = 1
PLACE: Final = "gpu"
EPOCHS: Final = 8
"""Draws of an item: for the largest models some minutes of work."""


def items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    alignment = config.alignment
    if alignment.method != "ipa" or results.one("shards") is None:
        return StageItems(())
    samples = kept_samples(config, results, inputs.store)
    # A shard may be there although what it was packed from is not (`execution.retention`). That is not made again for
    # this: the training computes what it finds no error for.
    gone = inputs.store.objects.missing({digest for one in samples for digest in _parts(one, config).values()})
    names = {item.action.key: item.name for item, _ in results.done("scores")}
    found = []
    for sample, epochs in zip(samples, epochs_of_run(alignment, [one.latents for one in samples]), strict=True):
        parts = _parts(sample, config)
        for block in () if gone.intersection(parts.values()) else _blocks(epochs):
            settings = _settings(config) | {"epochs": [block.start, block.stop]}
            found.append(
                Item(
                    name=f"{names[sample.score_action]}, epochs {block.start} to {block.stop - 1}",
                    action=Action(NAME, VERSION, settings, {"model": inputs.model_weights(), **parts}),
                    parents=(sample.candidate_action,),
                    needs=tuple(parts.values()),
                )
            )
    return StageItems(tuple(found))


WAVES: Final = (items,)


def _parts(sample: PreferenceSample, config: RunConfig) -> dict[str, str]:
    """Digests of what is read, by name."""
    parts = {"latents": sample.latents, "conditioning": sample.conditioning, "pose": sample.pose}
    if config.alignment.latents == "reencoded":
        parts["video"] = sample.video
    if sample.driving is not None:
        parts["driving"] = sample.driving
    return parts


def _blocks(epochs: int) -> Iterator[range]:
    for start in range(0, epochs, EPOCHS):
        yield range(start, min(start + EPOCHS, epochs))


def _settings(config: RunConfig) -> dict[str, Any]:
    alignment = config.alignment
    settings = alignment.model_dump(mode="json", include={"seed", "timesteps", "latents", "mask_time", "dtype"})
    if alignment.timesteps == "shifted":
        settings["timestep_shift"] = alignment.timestep_shift
    return {**settings, "model": {"dtype": config.candidates.model.dtype}}


def draws(action: Action) -> int:
    """Of an item."""
    start, stop = action.config["epochs"]
    return int(stop - start)


def compute(item: Item, bench: Workbench) -> Output:
    from ipa_core.alignment import TrainingSample, prepare, reference_errors
    from ipa_core.models import Conditioning, latents_from_bytes

    inputs, objects, config = item.action.inputs, bench.store.objects, bench.config.alignment
    sample = TrainingSample(
        key=item.name,
        digest=inputs["latents"],
        latents=latents_from_bytes(objects.get(inputs["latents"])),
        conditioning=Conditioning.from_bytes(objects.get(inputs["conditioning"])),
        pose=PoseSequence.from_bytes(objects.get(inputs["pose"])),
        video=objects.get(inputs["video"]) if "video" in inputs else b"",
        driving=objects.get(inputs["driving"]) if "driving" in inputs else None,
    )
    model = bench.model()
    # A draw at a time: what fits into memory for a candidate fits for it.
    errors = reference_errors(model, prepare(sample, model, config), range(*item.action.config["epochs"]), config)
    return Output(errors.model_dump(mode="json"))


def nothing_left(config: RunConfig, results: Results) -> str | None:
    return None
