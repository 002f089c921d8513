"""Put the files that people look for into the run's folder: the LoRA and the shards."""

from __future__ import annotations

from flows.engine.run import Run
from flows.stages.finetune import Finetune
from flows.stages.shards import Shards


def export(run: Run) -> None:
    """Raises ``RunStopped`` when their bytes are lost and can't be computed again."""
    # People copy, rename and edit a LoRA's folder; shards are large and are only read.
    for name, stage, link in (("lora", Finetune, False), ("shards", Shards, True)):
        found = run.view.one(stage)
        if found is None:
            continue
        run.restore({output.digest for output in found[1].outputs.values()})
        for file, output in found[1].outputs.items():
            run.folder.export(output.digest, f"{name}/{file}", link=link)
        run.outputs[name] = run.folder.address(name)
