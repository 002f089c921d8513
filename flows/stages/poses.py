"""Clips -> pose sequences. An item is one clip."""

from __future__ import annotations

from collections import Counter
from typing import Final

from flows.engine.stage import Inputs, Item, Output, Results, StageItems, key_config
from flows.engine.workbench import Workbench
from flows.stages.clips import NamedClip, named_clips
from ipa_core import keypoints
from ipa_core.config import RunConfig
from ipa_core.records import PoseSequence
from ipa_core.video import decode_video
from storage import Action, ActionResult

NAME: Final = "poses"
VERSION: Final = 1
PLACE: Final = "cpu"


def items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    settings = key_config(config.poses, "model")
    return StageItems(
        tuple(
            Item(
                name=named.name,
                action=Action(NAME, VERSION, settings, {"video": named.clip.video, "weights": inputs.pose_weights()}),
                parents=(named.action,),
                needs=(named.clip.video,),
            )
            for named in named_clips(config, results)
        )
    )


WAVES: Final = (items,)


def compute(item: Item, bench: Workbench) -> Output:
    pose = bench.extractor.extract(decode_video(bench.store.objects.get(item.action.inputs["video"])))
    return Output({"frames": len(pose), "hands_found": round(_hands_found(pose), 4)}, {"pose": pose.to_bytes()})


def _hands_found(pose: PoseSequence) -> float:
    """Share of the (frame, hand) pairs in which the hand was found."""
    return float(sum((pose.confidence[:, part].max(axis=1) > 0).mean() for part in keypoints.HANDS.values()) / 2)


def nothing_left(config: RunConfig, results: Results) -> str | None:
    if results.done(NAME):
        return None
    reasons = Counter(entry.result.reason for entry in results[NAME] if entry.result is not None)
    why = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3)) or "every item failed"
    return f"no pose was found in {len(results[NAME])} clips ({why}); check clips.crop and poses.min_person_height"


def posed_clips(config: RunConfig, results: Results) -> list[tuple[NamedClip, ActionResult]]:
    """The clips that have a pose sequence, with the result that holds it."""
    poses = {result.action.inputs["video"]: result for _, result in results.done(NAME)}
    return [(named, poses[named.clip.video]) for named in named_clips(config, results) if named.clip.video in poses]
