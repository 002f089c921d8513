"""Preferred samples -> WebDataset shards, with losing ones for the methods that learn from them. The one item reads and
writes bytes and needs no model."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import TypeAdapter

from flows.engine.plan import Forecast
from flows.engine.stage import Item, Output, Stage, key_fields
from flows.engine.view import View
from flows.engine.worker import Worker
from flows.stages.selection import Selection, kept_samples
from ipa_core.records import PreferenceSample, Record
from storage import Action, Store
from storage.shards import ShardWriter

_SAMPLES = TypeAdapter(tuple[PreferenceSample, ...])
_PARTS = {
    "latents.safetensors": "latents",
    "conditioning.safetensors": "conditioning",
    "pose.safetensors": "pose",
    "mp4": "video",
    "driving.mp4": "driving",
}


class PackedShards(Record):
    """The record of the shards. Outputs: `000000.tar`, ... and `samples.parquet`."""

    samples: int


class Shards(Stage[PackedShards]):
    name = "shards"
    version = 2
    place = "here"
    section = "shards"
    record = PackedShards
    handed_on = True

    def items(self, run: View) -> Iterator[Item]:
        selection, samples = run.one(Selection), kept_samples(run)
        if selection is None or not samples:
            return
        table = run.inputs.put(_SAMPLES.dump_json(samples))
        action = Action(self.name, self.version, key_fields(run.config.shards), {"samples": table})
        needs = (table, *{digest for sample in samples for digest in _files(sample).values()})
        parents = (selection[1].key, *(sample.candidate_action for sample in samples))
        yield Item(f"{len(samples)} samples", action, parents, needs)

    def compute(self, item: Item, worker: Worker) -> Output:
        objects = worker.store.objects
        samples = samples_of(item, worker.store)
        with ShardWriter(worker.scratch, worker.config.shards.samples_per_shard) as writer:
            for number, sample in enumerate(samples, 1):
                files = {name: objects.get(digest) for name, digest in _files(sample).items()}
                files["json"] = sample.model_dump_json().encode()
                writer.write(sample.key, files, sample.model_dump(exclude={"key"}))
                worker.progress(number, len(samples))
        return Output(
            PackedShards(samples=len(samples)), {path.name: path for path in sorted(worker.scratch.iterdir())}
        )

    def nothing_left(self, run: View) -> str | None:
        if run.one(Shards):
            return None
        if not kept_samples(run):
            return (
                "no clip has a pair for alignment.method: dpo; lower alignment.pair_margin, set alignment.pairs: "
                "margin, or generate more candidates per clip"
            )
        return "the shards could not be written; the error is listed above"

    def forecast(self, run: Forecast) -> float:
        return 0 if run.view.results[self.name] else 1


def _files(sample: PreferenceSample) -> dict[str, str]:
    """Return the digests by the names in the shard."""
    digests = {name: getattr(sample, part) for name, part in _PARTS.items()}
    return {name: digest for name, digest in digests.items() if digest is not None}


def samples_of(item: Item, store: Store) -> tuple[PreferenceSample, ...]:
    return _SAMPLES.validate_json(store.objects.get(item.action.inputs["samples"]))
