"""Clips -> pose sequences. An item is one clip."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from flows.engine.plan import Forecast
from flows.engine.stage import Item, Output, Stage, blob, key_fields
from flows.engine.view import View, joined
from flows.engine.worker import Worker
from flows.stages.clips import Clips, NamedClip, named_clips, reasons
from ipa_core import keypoints
from ipa_core.records import PoseSequence, Record
from ipa_core.scoring.yardstick import largest_hand
from ipa_core.video import decode_video
from storage import Action, ActionResult


class FoundPose(Record):
    """The record of a clip's pose. The output `pose` is the pose sequence itself."""

    frames: int
    hands_found: float
    """Share of the (frame, hand) pairs in which the hand was found, in [0, 1]."""
    largest_hand: float | None = None
    """See `scoring.yardstick.largest_hand`, pixels. None: a version before this field found the pose."""


class Poses(Stage[FoundPose]):
    name = "poses"
    version = 1
    place = "cpu"
    section = "poses"
    record = FoundPose

    def items(self, run: View) -> Iterator[Item]:
        settings = key_fields(run.config.poses, "model")
        for named in named_clips(run):
            inputs = {"video": named.clip.video, "weights": run.inputs.pose_weights}
            action = Action(self.name, self.version, settings, inputs)
            yield Item(named.name, action, parents=(named.action,), needs=(named.clip.video,))

    def check(self, run: View) -> None:
        _ = run.inputs.pose_weights

    def compute(self, item: Item, worker: Worker) -> Output:
        pose = worker.extractor.extract(decode_video(worker.store.objects.get(item.action.inputs["video"])))
        found = FoundPose(frames=len(pose), hands_found=_hands_found(pose), largest_hand=largest_hand(pose))
        return Output(found, {"pose": pose.to_bytes()})

    def nothing_left(self, run: View) -> str | None:
        if run.done(Poses):
            return None
        clips, why = reasons(run, self.name)
        return (
            f"no pose was found in {clips} clips ({why or 'every item failed'}); check clips.crop and "
            "poses.min_person_height"
        )

    def forecast(self, run: Forecast) -> float:
        windows = [len(record.clips) for record in run.view.records(Clips)]
        return run.unknown(Clips) * (fmean(windows) if windows else 1)


def _hands_found(pose: PoseSequence) -> float:
    share = sum((pose.confidence[:, part].max(axis=1) > 0).mean() for part in keypoints.HANDS.values()) / 2
    return round(float(share), 4)


@joined
def posed_clips(run: View) -> list[tuple[NamedClip, ActionResult]]:
    """Return the clips that have a pose sequence, each with the result that holds it."""
    poses = {result.action.inputs["video"]: result for _, result in run.done(Poses)}
    return [(named, poses[named.clip.video]) for named in named_clips(run) if named.clip.video in poses]


def pose_of(result: ActionResult) -> str:
    """Return the digest of the pose sequence."""
    return blob(result, "pose")
