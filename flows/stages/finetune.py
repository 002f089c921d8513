"""Shards -> aligned LoRA. One item, resumed from its checkpoint after a crash."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from flows.stage import Inputs, Item, Output, Results, StageItems, blob, key_config
from flows.workbench import Workbench
from ipa_core.config import RunConfig
from storage import Action, Store

NAME: Final = "finetune"
VERSION: Final = 1
PLACE: Final = "train"
LORA: Final = "pytorch_lora_weights.safetensors"


def items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    shards = results.one("shards")
    if shards is None:
        return StageItems(())
    tars = {name: found.digest for name, found in shards[1].outputs.items() if name.endswith(".tar")}
    settings = key_config(config.alignment, "checkpoint_every")
    settings["model"] = {"dtype": config.candidates.model.dtype}
    action = Action(NAME, VERSION, settings, {"model": inputs.model_weights(), **tars})
    name = f"LoRA ({config.alignment.method}, {config.alignment.steps} steps)"
    return StageItems((Item(name, action, parents=(shards[1].key,), needs=tuple(tars.values())),))


WAVES: Final = (items,)


@dataclass(frozen=True)
class Slot:
    """The checkpoints of one action."""

    store: Store
    key: str

    def load(self) -> bytes | None:
        found = self.store.checkpoints.load(self.key)
        return None if found is None else found[1]

    def save(self, step: int, data: bytes) -> None:
        self.store.checkpoints.save(self.key, step, data)


def compute(item: Item, bench: Workbench) -> Output:
    from ipa_core.alignment import ShardSamples, StepLog, TensorBoardLog, model_card, train

    config = bench.config.alignment
    samples = ShardSamples([bench.store.objects.path(item.action.inputs[name]) for name in sorted(_tars(item))])
    tensorboard = TensorBoardLog(Path(bench.store.address) / "tensorboard" / item.action.key)

    def on_step(entry: StepLog) -> None:
        tensorboard(entry)
        bench.progress(entry.step + 1, entry.steps)

    try:
        slot = Slot(bench.store, item.action.key)
        trained = train(bench.model_for_training(), samples, config, checkpoints=slot, on_step=on_step)
    finally:
        tensorboard.close()
    base = Path(bench.config.candidates.model.path)
    card = model_card(config, base.name if base.is_absolute() else str(base), len(samples))
    # Without the seconds: the same training gives the same bytes.
    history = [entry.model_dump(exclude={"seconds"}) for entry in trained.history]
    return Output(
        {"steps": config.steps, "samples": len(samples), "loss": trained.history[-1].loss},
        {
            LORA: trained.weights,
            "comfyui_lora.safetensors": trained.comfyui,
            "README.md": card.encode(),
            "alignment.yaml": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode(),
            "training.json": json.dumps(history).encode(),
        },
    )


def _tars(item: Item) -> list[str]:
    return [name for name in item.action.inputs if name.endswith(".tar")]


def nothing_left(config: RunConfig, results: Results) -> str | None:
    return None if results.one(NAME) else "the training failed; the error is listed above"


def lora_digest(results: Results) -> str | None:
    one = results.one(NAME)
    return blob(one[1], LORA) if one else None
