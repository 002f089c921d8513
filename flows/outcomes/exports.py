"""Put the files that people look for into the run's folder: the LoRA and the shards."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import Final

from flows.engine.run import Run
from flows.engine.run_folder import runs
from flows.engine.stage import blob
from flows.stages.evaluation import comparison, sampled_otherwise
from flows.stages.finetune import Finetune
from flows.stages.judge import who_judged
from flows.stages.pairs import preferred_of
from flows.stages.shards import Shards
from ipa_core.reporting.card import evaluation_card
from storage import Blob
from storage.digest import digest_file

LARGE: Final = 2**20
"""Runs share their files from this size on (bytes). People edit a card or a config in place, but no weights."""
CARD: Final = "README.md"
_LOOKED_AT: Final = 20
"""Number of earlier runs that may have the same file."""


def export(run: Run) -> None:
    """Raises ``RunStopped`` when their bytes are lost and can't be computed again."""
    # People copy, rename and edit a LoRA's folder, so none of its files is an object itself. Large shards are.
    for name, stage, link in (("lora", Finetune, False), ("shards", Shards, True)):
        found = run.view.one(stage)
        if found is None:
            continue
        run.restore({output.digest for output in found[1].outputs.values()})
        for file, output in found[1].outputs.items():
            earlier = None if link else _earlier(run, f"{name}/{file}", output)
            if earlier is None or not run.folder.take(earlier, f"{name}/{file}"):
                run.folder.export(output.digest, f"{name}/{file}", link=link)
        run.outputs[name] = run.folder.address(name)
    trained, compared = run.view.one(Finetune), comparison(run.view)
    if trained is not None and compared is not None:
        # The object is the card as the training wrote it, before anybody had evaluated the LoRA.
        card = run.read(blob(trained[1], CARD)).decode()
        evaluated = evaluation_card(
            compared, sampled_otherwise(run.config), preferred_of(run.view), who_judged(run.view)
        )
        run.folder.write(f"lora/{CARD}", (card + evaluated).encode())


def _earlier(run: Run, name: str, output: Blob) -> str | None:
    """Return the name, in the store, of an earlier run's large file with these bytes. None is looked for in a store
    behind a URL, which has no links."""
    if output.size < LARGE or not run.store.folder.has_links:
        return None
    for folder in islice(runs(run.store), _LOOKED_AT):
        path = folder.local_copy(name)
        with suppress(OSError):  # A collection removes that run just now.
            if path is not None and path.stat().st_size == output.size and digest_file(path) == output.digest:
                return f"runs/{folder.run_id}/{name}"
    return None
