"""How evaluated videos look. An evaluation of an earlier version lacks it; then the stored videos are measured."""

from __future__ import annotations

from collections.abc import Iterable

from ipa_core.evaluation import ClipResult, Look, look
from ipa_core.masks import hand_mask
from ipa_core.records import PoseSequence
from ipa_core.video import decode_video
from storage import ActionResult, Store


def objects_of(result: ActionResult) -> tuple[str, ...]:
    """Return the digests that a look at the videos of an evaluated clip reads."""
    inputs, outputs = result.action.inputs, result.outputs
    return (inputs["clip"], inputs["pose"], *(one.digest for name, one in outputs.items() if name.endswith(".mp4")))


def with_looks(rows: Iterable[ClipResult], result: ActionResult, store: Store) -> list[ClipResult]:
    """Return the rows of an evaluated clip, all with their look. A clip whose bytes are gone stays without."""
    rows = list(rows)
    if not any(row.lacks_look for row in rows) or store.objects.missing(set(objects_of(result))):
        return rows
    read = store.objects.get
    truth = decode_video(read(result.action.inputs["clip"]))
    hands = hand_mask(PoseSequence.from_bytes(read(result.action.inputs["pose"])))

    def measured(number: int) -> Look:
        return look(decode_video(read(result.outputs[f"{number}.mp4"].digest)), truth, hands)

    return [
        row.model_copy(update={"look": measured(number)}) if row.lacks_look else row for number, row in enumerate(rows)
    ]
