"""The second judge's wave of the evaluation: an item per held-out clip and model, which looks at its videos.

It has items of its own, so that naming a judge (`evaluation.judge`) generates no video again, and also an older
evaluation can be judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from flows.engine.stage import Item, Output, blob
from flows.engine.worker import Worker
from ipa_core.evaluation.second_judge import VERSION
from ipa_core.records import PoseSequence, Record
from ipa_core.video import decode_video
from storage import Action, ActionResult

_JUDGE: Final = "second_judge"
_VIDEO: Final = "video "


class Judged(Record):
    """The record of the item."""

    judged: tuple[float | None, ...]
    """Of each video of the clip, see `ipa_core.evaluation.second_judge`."""


def is_judging(action: Action) -> bool:
    return _JUDGE in action.inputs


def judging_item(item: Item, evaluated: ActionResult, videos: int, judge: str, version: int) -> Item:
    """Make the item that looks at the ``videos`` of an evaluated clip. ``judge``: the digest of its files."""
    made = {f"{_VIDEO}{number}": blob(evaluated, f"{number}.mp4") for number in range(videos)}
    inputs = {**made, "true": evaluated.action.inputs["clip"], "pose": evaluated.action.inputs["pose"]}
    if "found" in evaluated.action.inputs:
        inputs["found"] = evaluated.action.inputs["found"]
    action = Action("evaluation", version, {_JUDGE: VERSION}, {**inputs, _JUDGE: judge})
    return Item(f"{item.name}, second judge", action, (evaluated.key,), tuple(inputs.values()))


def compute(item: Item, worker: Worker) -> Output:
    inputs, read = item.action.inputs, worker.store.objects.get
    judge = worker.second_judge(inputs[_JUDGE])
    truth, pose = decode_video(read(inputs["true"])), PoseSequence.from_bytes(read(inputs["pose"]))
    found = PoseSequence.from_bytes(read(inputs["found"])) if "found" in inputs else pose
    videos = (decode_video(read(digest)) for digest in _videos(item.action))
    return Output(Judged(judged=tuple(judge.judge(videos, pose, truth, found))))


def _videos(action: Action) -> Iterator[str]:
    count = sum(name.startswith(_VIDEO) for name in action.inputs)
    return (action.inputs[f"{_VIDEO}{number}"] for number in range(count))
