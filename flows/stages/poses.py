"""Clips -> pose sequences. An item is one clip. With `candidates.retarget` a second wave has an item for each clip that
animates another person: the same motion by the skeleton of that person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import ClassVar

from flows.engine.plan import Forecast
from flows.engine.stage import Item, Output, Stage, Wave, blob, key_fields
from flows.engine.view import View, joined
from flows.engine.worker import Worker
from flows.stages.clips import Clips, NamedClip, named_clips, reasons
from ipa_core import keypoints
from ipa_core.records import PoseSequence, Record, Rejected
from ipa_core.scoring.yardstick import largest_hand
from ipa_core.video import decode_picture, decode_video, fitted
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
    fields: ClassVar[Mapping[str, str]] = {"retarget": "candidates.retarget", "size": "clips"}
    record = FoundPose

    def items(self, run: View) -> Iterator[Item]:
        settings = key_fields(run.config.poses, "model")
        for named in named_clips(run):
            inputs = {"video": named.clip.video, "weights": run.inputs.pose_weights}
            action = Action(self.name, self.version, settings, inputs)
            yield Item(named.name, action, parents=(named.action,), needs=(named.clip.video,))

    def waves(self) -> Sequence[Wave]:
        return self.items, self.retargeted_items

    def retargeted_items(self, run: View) -> Iterator[Item]:
        if not run.config.candidates.retarget:
            return
        clips = run.config.clips
        settings = key_fields(run.config.poses, "model") | {"retarget": True, "size": [clips.width, clips.height]}
        for named, pose in _with_their_poses(run):
            if named.another:
                needs = {"pose": pose_of(pose), "reference": named.clip.reference}
                action = Action(self.name, self.version, settings, needs | {"weights": run.inputs.pose_weights})
                yield Item(f"{named.name} for {named.another}", action, (pose.key,), tuple(needs.values()))

    def check(self, run: View) -> None:
        _ = run.inputs.pose_weights

    def compute(self, item: Item, worker: Worker) -> Output:
        inputs, read = item.action.inputs, worker.store.objects.get
        if "reference" in inputs:
            pose = _retargeted(PoseSequence.from_bytes(read(inputs["pose"])), read(inputs["reference"]), worker)
        else:
            pose = worker.extractor.extract(decode_video(read(inputs["video"])))
        found = FoundPose(frames=len(pose), hands_found=_hands_found(pose), largest_hand=largest_hand(pose))
        return Output(found, {"pose": pose.to_bytes()})

    def nothing_left(self, run: View) -> str | None:
        if posed_clips(run):
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


def _retargeted(driving: PoseSequence, picture: bytes, worker: Worker) -> PoseSequence:
    """Return the driving motion for the person of a picture. Raises ``Rejected``."""
    from ipa_core.generation.retarget import retarget

    try:
        reference = fitted(decode_picture(picture), driving.width, driving.height)
        return retarget(driving, worker.extractor.extract(reference[None]))
    except (Rejected, ValueError) as trouble:
        raise Rejected(f"can't be retargeted to its reference image: {trouble}") from None


def _with_their_poses(run: View) -> list[tuple[NamedClip, ActionResult]]:
    """Return the clips with the pose that their video shows."""
    poses = {result.action.inputs.get("video"): result for _, result in run.done(Poses)}
    return [(named, poses[named.clip.video]) for named in named_clips(run) if named.clip.video in poses]


@joined
def posed_clips(run: View) -> list[tuple[NamedClip, ActionResult]]:
    """Return the clips that have a pose sequence to animate, each with the result that holds it."""
    found = _with_their_poses(run)
    if not run.config.candidates.retarget:
        return found
    given = [(result.action.inputs, result) for _, result in run.done(Poses)]
    moved = {(inputs["pose"], inputs["reference"]): result for inputs, result in given if "reference" in inputs}
    chosen = [
        (named, moved.get((pose_of(pose), named.clip.reference)) if named.another else pose) for named, pose in found
    ]
    return [(named, pose) for named, pose in chosen if pose is not None]


def pose_of(result: ActionResult) -> str:
    """Return the digest of the pose sequence."""
    return blob(result, "pose")


def found_of(result: ActionResult) -> str:
    """Return the digest of the pose that the driving video shows, also where that was retargeted."""
    return result.action.inputs.get("pose") or pose_of(result)
