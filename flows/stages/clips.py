"""Driving videos -> clips. An item is one source video; its clips get prompt, group and split when they are read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from flows.engine.stage import Drop, Inputs, Item, Output, Results, StageItems, blob, key_config
from flows.engine.workbench import Workbench
from ipa_core.clips import CutClip, Video, cut_video, find_videos, is_url, local_file, read_metadata, split_of
from ipa_core.config import RunConfig
from ipa_core.records import Box, Clip
from ipa_core.video import encode_png, encode_video
from storage import Action
from storage.digest import digest_file

NAME: Final = "clips"
VERSION: Final = 2
PLACE: Final = "cpu"
_NOT_IN_KEY = ("sources", "metadata", "prompt", "held_out")


@dataclass(frozen=True)
class NamedClip:
    """A clip with what people call it and the action that cut it."""

    name: str
    clip: Clip
    action: str


def items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    settings = key_config(config.clips, *_NOT_IN_KEY)
    people: dict[str, str] = {}
    if config.clips.crop == "person":
        settings["people"] = config.poses.backend
        people = {"people": inputs.pose_weights()}
    found: dict[str, Item] = {}
    dropped: list[Drop] = []
    videos = find_videos(config.clips.sources)
    for video, name, digest in zip(videos, _names(videos), inputs.videos(videos), strict=True):
        action = Action(NAME, VERSION, settings, {"video": digest, **people})
        if action.key in found:
            dropped.append(Drop(NAME, name, f"the same bytes as {found[action.key].name}"))
        else:
            found[action.key] = Item(name, action, source=video.address)
    return StageItems(tuple(found.values()), tuple(dropped))


WAVES: Final = (items,)


def compute(item: Item, bench: Workbench) -> Output:
    assert item.source is not None
    with local_file(item.source) as video:
        if is_url(item.source) and digest_file(video) != item.action.inputs["video"]:
            raise OSError(f"{item.source} has been replaced since this run began; the next run takes what it is now")
        return _cut(video, item, bench)


def _cut(video: Path, item: Item, bench: Workbench) -> Output:
    config = bench.config.clips
    source = item.action.inputs["video"]
    people = partial(_people, bench) if config.crop == "person" else None
    objects: dict[str, bytes] = {}
    clips: list[dict[str, object]] = []
    dropped: list[dict[str, object]] = []
    for part in cut_video(video, source, config, people):
        if isinstance(part, CutClip):
            objects[f"{part.index:03d}.mp4"] = encode_video(part.frames, config.fps)
            objects[f"{part.index:03d}.png"] = encode_png(part.frames[part.reference_index])
            clips.append(
                {
                    "index": part.index,
                    "start": round(part.start, 4),
                    "crop": part.crop.model_dump(),
                    "reference_index": part.reference_index,
                }
            )
        else:
            dropped.append({"index": part.index, "start": round(part.start, 4), "reason": part.reason})
    # Where no clip comes out, cut_video raises Rejected.
    return Output({"clips": clips, "dropped": dropped}, objects)


def _people(bench: Workbench, picture: np.ndarray) -> list[Box]:
    return [person.box for person in bench.extractor.find_people(picture)]


def nothing_left(config: RunConfig, results: Results) -> str | None:
    if any(result.record["clips"] for _, result in results.done(NAME)):
        return None
    reasons = Counter(entry.result.reason for entry in results[NAME] if entry.result is not None)
    why = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3)) or "no video was read"
    return f"no clip could be cut from {len(results[NAME])} videos ({why}); check clips.sources and clips.frames"


def named_clips(config: RunConfig, results: Results) -> list[NamedClip]:
    """All clips of the run, each with prompt, group and split as the config and its metadata say today."""
    metadata = read_metadata(config.clips.metadata) if config.clips.metadata else None
    clips: list[NamedClip] = []
    for item, result in results.done(NAME):
        about = metadata.lookup(item.source) if metadata and item.source else None
        source = item.action.inputs["video"]
        group = (about.group if about else None) or source
        for window in result.record["clips"]:
            index = window["index"]
            clip = Clip(
                clip_id=f"{source[:16]}-{index:03d}",
                source=source,
                index=index,
                start=window["start"],
                frames=config.clips.frames,
                width=config.clips.width,
                height=config.clips.height,
                fps=config.clips.fps,
                crop=window["crop"],
                reference_index=window["reference_index"],
                video=blob(result, f"{index:03d}.mp4"),
                reference=blob(result, f"{index:03d}.png"),
                prompt=(about.prompt if about else None) or config.clips.prompt,
                group=group,
                split=(about.split if about else None) or split_of(group, config.clips.held_out),
            )
            clips.append(NamedClip(f"{item.name} #{index:03d}", clip, result.key))
    return clips


def _names(videos: list[Video]) -> list[str]:
    """File names; with the folder where a name stands twice."""
    seen = Counter(video.name for video in videos)
    return [video.name if seen[video.name] == 1 else f"{video.folder}/{video.name}" for video in videos]
