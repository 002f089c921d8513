"""Shards -> aligned LoRA. The one item trains in processes of its own and resumes from its checkpoint after a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import yaml

from flows.engine.components import check_trackers
from flows.engine.plan import Forecast
from flows.engine.stage import Item, Output, Stage, blob, key_fields
from flows.engine.view import View
from flows.engine.worker import Worker
from flows.stages.previewed import encoded_previews, preview_needs
from flows.stages.references import References
from flows.stages.shards import Shards
from flows.training.job import LORA, RECORD, Job, function_name
from flows.training.launch import train_apart
from ipa_core.config import RunConfig
from ipa_core.models import Network
from ipa_core.records import Digest, Record, ReferenceErrors
from storage import Action, Store

if TYPE_CHECKING:
    from ipa_core.alignment.reference import ReferenceTable


class Training(Record):
    """The record of a training. Outputs: the LoRA for diffusers and for ComfyUI, its card, its config,
    `training.json`."""

    steps: int
    samples: int
    loss: float
    """Loss of the last step."""


class Finetune(Stage[Training]):
    name = "finetune"
    version = 2
    place = "train"
    section = "alignment"
    fields: ClassVar[Mapping[str, str]] = {"model": "candidates.model", "sampler": "candidates"}
    record = Training
    handed_on = True

    def check(self, run: View) -> None:
        check_trackers(run.config.execution)

    def items(self, run: View) -> Iterator[Item]:
        shards, alignment = run.one(Shards), run.config.alignment
        if shards is None:
            return
        tars = {name: found.digest for name, found in shards[1].outputs.items() if name.endswith(".tar")}
        settings = key_fields(alignment, "checkpoint_every", "preview_every")
        settings["model"] = {"dtype": run.config.candidates.model.dtype}
        if alignment.method != "sft":
            settings["references"] = References.version
        if alignment.time_weight == "sampler":
            sampler = run.config.candidates.model_dump(mode="json", include={"scheduler", "shift", "steps"})
            settings["sampler"] = sampler
        action = Action(self.name, self.version, settings, {"model": run.inputs.model_weights, **tars})
        # The reference errors are not in the key, because they follow from its contents.
        ahead = tuple(result.key for _, result in run.done(References))
        name = f"LoRA ({alignment.method}, {alignment.steps} steps)"
        needs = (*tars.values(), *preview_needs(run))
        yield Item(name, action, parents=(shards[1].key, *ahead), needs=needs)

    def compute(self, item: Item, worker: Worker) -> Output:
        config = worker.config.alignment
        table = worker.scratch / "references.json"
        table.write_text(_references(item, worker.store).model_dump_json())
        job = Job(
            config=worker.config,
            key=item.action.key,
            store=str(worker.store.address),
            shards=tuple(worker.store.objects.path(item.action.inputs[name]) for name in sorted(_tars(item))),
            references=table,
            animation_model=function_name(worker.components.animation_model),
            previews=encoded_previews(item, worker),
            output=worker.scratch / "output",
        )
        train_apart(job, worker.progress)
        files = {path.name: path for path in job.output.iterdir()}
        record = Training.model_validate(json.loads(files.pop(RECORD).read_text()))
        base = Path(worker.config.candidates.model.path)
        name = base.name if base.is_absolute() else str(base)
        card = worker.components.model_card(worker.config.candidates.model, config, name, record.samples)
        # What shows the training does not make the LoRA.
        settings = yaml.safe_dump(config.model_dump(mode="json", exclude={"preview_every"}), sort_keys=False)
        return Output(record, {**files, "README.md": card.encode(), "alignment.yaml": settings.encode()})

    def size_of(self, action: Action) -> float:
        return float(action.config["steps"] * action.config["batch_size"])

    def usual_size(self, config: RunConfig) -> float:
        return config.alignment.steps * config.alignment.batch_size

    def nothing_left(self, run: View) -> str | None:
        return None if run.one(Finetune) else "the training failed; the error is listed above"

    def forecast(self, run: Forecast) -> float:
        return 0 if run.view.results[self.name] else 1

    def flops(self, network: Network, config: RunConfig) -> float:
        return network.training_flops(config)


def _references(item: Item, store: Store) -> ReferenceTable:
    from ipa_core.alignment.reference import ReferenceTable

    samples: dict[Digest, tuple[ReferenceErrors, ...]] = {}
    for result in store.actions.lookup(References.name, item.parents).values():
        latents = result.action.inputs["latents"]
        samples[latents] = (*samples.get(latents, ()), ReferenceErrors.model_validate(result.record))
    return ReferenceTable(samples=samples)


def _tars(item: Item) -> list[str]:
    return [name for name in item.action.inputs if name.endswith(".tar")]


def lora_digest(run: View) -> str | None:
    """Return the digest of the LoRA that this run has trained; None before."""
    one = run.one(Finetune)
    return blob(one[1], LORA) if one else None
