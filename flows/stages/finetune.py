"""Shards -> aligned LoRA. One item, trained in a process of its own, resumed from its checkpoint after a crash."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from flows.engine.stage import Inputs, Item, Output, Results, StageItems, blob, key_config
from flows.engine.workbench import Workbench
from flows.stages import references
from flows.training.process import LORA as LORA
from flows.training.process import RECORD, Job, function_name, train_apart
from ipa_core.config import RunConfig
from ipa_core.records import Digest, ReferenceErrors
from storage import Action, Store

if TYPE_CHECKING:
    from ipa_core.alignment import ReferenceTable

NAME: Final = "finetune"
VERSION: Final = 2
PLACE: Final = "train"


def items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    shards = results.one("shards")
    if shards is None:
        return StageItems(())
    tars = {name: found.digest for name, found in shards[1].outputs.items() if name.endswith(".tar")}
    settings = key_config(config.alignment, "checkpoint_every")
    settings["model"] = {"dtype": config.candidates.model.dtype}
    if config.alignment.method == "ipa":
        settings["references"] = references.VERSION
    action = Action(NAME, VERSION, settings, {"model": inputs.model_weights(), **tars})
    name = f"LoRA ({config.alignment.method}, {config.alignment.steps} steps)"
    # Not in the key: what the reference errors are follows from what is.
    ahead = tuple(result.key for _, result in results.done("references"))
    return StageItems((Item(name, action, parents=(shards[1].key, *ahead), needs=tuple(tars.values())),))


WAVES: Final = (items,)


def compute(item: Item, bench: Workbench) -> Output:
    from ipa_core.models.wan_vace.card import model_card

    config = bench.config.alignment
    folder = Path(tempfile.mkdtemp(dir=bench.scratch))
    table = folder / "references.json"
    table.write_text(_references(item, bench.store).model_dump_json())
    job = Job(
        config=bench.config,
        key=item.action.key,
        store=str(bench.store.address),
        shards=tuple(bench.store.objects.path(item.action.inputs[name]) for name in sorted(_tars(item))),
        references=table,
        animation_model=function_name(bench.components.animation_model),
        output=folder / "output",
    )
    bench.make_room()
    train_apart(job, bench.progress)
    files = {path.name: path for path in job.output.iterdir()}
    record = json.loads(files.pop(RECORD).read_text())
    base = Path(bench.config.candidates.model.path)
    card = model_card(config, base.name if base.is_absolute() else str(base), record["samples"])
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return Output(record, {**files, "README.md": card.encode(), "alignment.yaml": settings.encode()})


def _references(item: Item, store: Store) -> ReferenceTable:
    from ipa_core.alignment import ReferenceTable

    samples: dict[Digest, tuple[ReferenceErrors, ...]] = {}
    for result in store.actions.lookup("references", item.parents).values():
        latents = result.action.inputs["latents"]
        samples[latents] = (*samples.get(latents, ()), ReferenceErrors.model_validate(result.record))
    return ReferenceTable(samples=samples)


def _tars(item: Item) -> list[str]:
    return [name for name in item.action.inputs if name.endswith(".tar")]


def nothing_left(config: RunConfig, results: Results) -> str | None:
    return None if results.one(NAME) else "the training failed; the error is listed above"


def lora_digest(results: Results) -> str | None:
    one = results.one(NAME)
    return blob(one[1], LORA) if one else None
