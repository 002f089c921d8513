"""Preferred samples -> WebDataset shards. One item; reads and writes bytes, needs no model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from flows.engine.stage import Inputs, Item, Output, Results, StageItems, key_config
from flows.engine.workbench import Workbench
from flows.stages.selection import decisions, preferred_samples
from ipa_core.config import RunConfig
from ipa_core.records import PreferenceSample
from storage import Action, ShardWriter, Store

NAME: Final = "shards"
VERSION: Final = 2
PLACE: Final = "here"
_SAMPLES = TypeAdapter(tuple[PreferenceSample, ...])
_PARTS = {
    "latents.safetensors": "latents",
    "conditioning.safetensors": "conditioning",
    "pose.safetensors": "pose",
    "mp4": "video",
    "driving.mp4": "driving",
}


def items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    selection = results.one("selection")
    samples = kept_samples(config, results, inputs.store)
    if selection is None or not samples:
        return StageItems(())
    table = inputs.put(_SAMPLES.dump_json(samples))
    action = Action(NAME, VERSION, key_config(config.shards), {"samples": table})
    needs = (table, *{digest for sample in samples for digest in _files(sample).values()})
    parents = (selection[1].key, *(sample.candidate_action for sample in samples))
    return StageItems((Item(f"{len(samples)} samples", action, parents, needs),))


WAVES: Final = (items,)


def kept_samples(config: RunConfig, results: Results, store: Store) -> tuple[PreferenceSample, ...]:
    """What selection kept, in the order of the shards."""
    selection = results.one("selection")
    if selection is None:
        return ()
    kept = {(decision.clip_id, decision.seed) for decision in decisions(selection[1], store) if decision.kept}
    return tuple(sorted(preferred_samples(config, results, kept), key=lambda sample: sample.key))


def compute(item: Item, bench: Workbench) -> Output:
    objects = bench.store.objects
    samples = _SAMPLES.validate_json(objects.get(item.action.inputs["samples"]))
    folder = Path(tempfile.mkdtemp(dir=bench.scratch))
    with ShardWriter(folder, bench.config.shards.samples_per_shard) as writer:
        for number, sample in enumerate(samples, 1):
            files = {name: objects.get(digest) for name, digest in _files(sample).items()}
            files["json"] = sample.model_dump_json().encode()
            writer.write(sample.key, files, sample.model_dump(exclude={"key"}))
            bench.progress(number, len(samples))
    return Output({"samples": len(samples)}, {path.name: path for path in sorted(folder.iterdir())})


def _files(sample: PreferenceSample) -> dict[str, str]:
    """Digest by the name in the shard."""
    digests = {name: getattr(sample, part) for name, part in _PARTS.items()}
    return {name: digest for name, digest in digests.items() if digest is not None}


def nothing_left(config: RunConfig, results: Results) -> str | None:
    return None if results.one(NAME) else "the shards could not be written; the error is listed above"


def samples_of(item: Item, store: Store) -> tuple[PreferenceSample, ...]:
    return _SAMPLES.validate_json(store.objects.get(item.action.inputs["samples"]))
