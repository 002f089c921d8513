"""Driving videos -> clips. An item is one source video. Its clips get prompt, group and split when they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from flows.engine.plan import Forecast
from flows.engine.stage import Drop, Item, Output, Stage, blob, key_fields
from flows.engine.view import View, joined
from flows.engine.worker import Worker
from ipa_core.clips.cut import CutClip, DroppedWindow, cut_video
from ipa_core.clips.metadata import Unmatched, VideoEntry
from ipa_core.clips.references import check_named, drawn
from ipa_core.clips.sources import Video, local_file
from ipa_core.clips.split import group_of, split_of
from ipa_core.config import ConfigError
from ipa_core.records import Box, Clip, Record, Split
from ipa_core.video import LARGE, UNTAGGED, encode_png, encode_video, probe
from storage import Action, ActionResult
from storage.digest import digest_file


class Window(Record):
    """A part of a source video that became a clip. start: seconds."""

    index: int
    start: float
    crop: Box
    reference_index: int


class CutVideo(Record):
    """The record of a source video. Its outputs are `000.mp4` and `000.png` (the reference image) of each window."""

    clips: tuple[Window, ...]
    dropped: tuple[DroppedWindow, ...]


class Clips(Stage[CutVideo]):
    name = "clips"
    version = 2
    place = "cpu"
    section = "clips"
    fields: ClassVar[Mapping[str, str]] = {"people": "poses.backend"}
    record = CutVideo

    def items(self, run: View) -> Iterator[Item | Drop]:
        found: dict[str, str] = {}
        names = _names(run.inputs.videos)
        actions = self._actions(run)
        for (video, digest), name in zip(run.inputs.video_digests.items(), names, strict=True):
            action = actions[digest]
            if action.key in found:
                yield Drop(self.name, name, f"the same bytes as {found[action.key]}")
            else:
                found[action.key] = name
                yield Item(name, action, source=video.address)

    def _actions(self, run: View) -> dict[str, Action]:
        """Return the action of each video by its digest. Its key has the traits that change how the video is read since
        version 2, so that ordinary videos keep their keys. A wrong matrix of untagged colours is no reason to throw
        clips away: they stay where the store has them."""
        actions = self._plain(run)
        known = _known(run, actions)
        for digest, action in actions.items():
            traits = _traits(run, digest)
            if traits and not (traits == [UNTAGGED] and digest in known):
                actions[digest] = replace(action, config={**action.config, "reading": traits})
        return actions

    def _plain(self, run: View) -> dict[str, Action]:
        """Return the action of each video as of a video without traits."""
        config = run.config
        settings = key_fields(config.clips, "sources", "metadata", "prompt", "held_out", "group_by", "references")
        people = {}
        if config.clips.crop == "person":
            settings["people"] = config.poses.backend
            people = {"people": run.inputs.pose_weights}
        return {
            digest: Action(self.name, self.version, settings, {"video": digest, **people})
            for digest in run.inputs.video_digests.values()
        }

    def compute(self, item: Item, worker: Worker) -> Output:
        assert item.source is not None
        with local_file(item.source) as video, _unchanged(video, item):
            return _cut(video, item, worker)

    def nothing_left(self, run: View) -> str | None:
        if any(record.clips for record in run.records(Clips)):
            return None
        videos, why = reasons(run, self.name)
        return (
            f"no clip could be cut from {videos} videos ({why or 'no video was read'}); check clips.sources and "
            "clips.frames"
        )

    def check(self, run: View) -> None:
        table = run.inputs.metadata
        _check_references(run)
        left = table.unmatched(run.inputs.videos) if table else None
        if left and left.deciding and left.videos:
            # Else a performer who is to be held out could be trained on.
            raise ConfigError(
                f"clips.metadata: {run.config.clips.metadata} gives a split to {_some(left, left.deciding)}, but no "
                f"video has that name, and {len(left.videos)} videos have no row; mend the row or remove it"
            )

    def notes(self, run: View) -> Iterator[str]:
        config, videos, table = run.config.clips, len(run.inputs.videos), run.inputs.metadata
        yield _split_sentence(run)
        if left_out := run.inputs.sources.left_out:
            kinds = ", ".join(f"{count} x {kind}" for kind, count in left_out.most_common())
            yield f"files in clips.sources that are not read: {kinds}"
        yield from _readings(run, _known(run, self._plain(run)))
        yield from _reference_notes(run)
        if table and table.note:
            yield table.note
        left = table.unmatched(run.inputs.videos) if table else None
        if left and left.rows:
            yield f"rows of {config.metadata} that match no video: {_some(left, left.rows)}"
        if table is None and config.group_by == "file" and videos > 1:
            yield (
                f"each of the {videos} videos counts as another performer, so takes of one person may be both trained "
                "on and judged on; name the performers in clips.metadata, or set clips.group_by to folder if each has "
                "one"
            )

    def window_drops(self, item: Item, result: ActionResult) -> Iterable[Drop]:
        for window in self.read(result).dropped:
            yield Drop(self.name, f"{item.name} from {window.start:.2f} s", window.reason)

    def forecast(self, run: Forecast) -> float:
        return run.new_clips


def _known(run: View, plain: Mapping[str, Action]) -> set[str]:
    """Return the videos with traits that an earlier version has cut as if they had none."""
    keys = {action.key: digest for digest, action in plain.items() if _traits(run, digest)}
    return {keys[key] for key in run.store.actions.lookup(Clips.name, list(keys))}


def _readings(run: View, known: set[str]) -> Iterator[str]:
    """Say what becomes of clips that an earlier version cut from videos that it read wrong."""
    kept = [digest for digest in known if _traits(run, digest) == [UNTAGGED]]
    if kept:
        yield (
            f"videos of 720 lines or more without a colour tag: {len(kept)} keep the clips that this store has, in the "
            "colours of BT.601; new ones are read as BT.709"
        )
    if again := known.difference(kept):
        traits = Counter(trait for digest in again for trait in _traits(run, digest))
        kinds = ", ".join(f"{count} x {trait}" for trait, count in sorted(traits.items()))
        yield f"videos that an earlier version read wrong and that are cut again: {len(again)} ({kinds})"


def _traits(run: View, digest: str) -> list[str]:
    """Return what of a video is read otherwise since version 2. Stores of generation 1 keep the clips of large videos
    that they have, and new ones are made like them."""
    look, least = run.inputs.looks[digest], run.config.clips.min_source_fps
    traits = [trait for trait in look.traits if trait != LARGE or run.store.generation > 1]
    return [*traits, *(["uneven"] if look.fps < least <= look.usual_fps else [])]


@contextmanager
def _unchanged(video: Path, item: Item) -> Iterator[None]:
    """Raise ``OSError`` if the file is not the one that this run found, before or after the block."""
    changed = OSError(f"{item.source} has changed since this run began; the next run takes it as it is then")
    before = _state(video)
    if digest_file(video) != item.action.inputs["video"]:
        raise changed
    try:
        yield
    finally:
        if _state(video) != before:
            raise changed


def _state(video: Path) -> tuple[int, int, int]:
    about = video.stat()
    return about.st_size, about.st_mtime_ns, about.st_ino


def _check_references(run: View) -> None:
    config, table = run.config.clips, run.inputs.metadata
    named = table.references if table else ()
    if named and config.references is None:
        raise ConfigError(
            f"clips.metadata: {config.metadata} has the column reference, but clips.references names no folder with "
            "these pictures; name it"
        )
    for name in named:
        check_named(name, run.inputs.pictures.paths, str(config.references), str(config.metadata))


def _reference_notes(run: View) -> Iterator[str]:
    folder, pictures = run.config.clips.references, run.inputs.pictures
    if folder is None:
        return
    yield (
        f"clips with a picture of {folder} animate another person than the driving video shows: their videos have no "
        "true video, so PSNR, SSIM, what is kept of it, FVD and drift are not measured on them, and the hand score "
        "compares the motion, not the sharpness"
    )
    if pictures.others:
        yield f"files in clips.references that are no PNG or JPEG and are not used: {', '.join(pictures.others[:5])}"


def _another(run: View, clip: Clip, about: VideoEntry) -> str | None:
    """Return the name of the picture of another person that a clip animates; None: its own."""
    table, pictures = run.inputs.metadata, run.inputs.references
    if not pictures or (table and table.references):
        return about.reference if pictures else None
    return drawn(clip.clip_id, clip.split, pictures, run.config.clips.held_out)


def _some(left: Unmatched, rows: Sequence[str]) -> str:
    more = [f"{len(rows) - 3} more"] if len(rows) > 3 else []
    return ", ".join([*map(left.guess, rows[:3]), *more])


def _performer(run: View, address: str, digest: str) -> tuple[str, Split, VideoEntry]:
    """Return the group and split of a video, and its row of the metadata table."""
    config, table = run.config.clips, run.inputs.metadata
    about = table.lookup(address) if table else VideoEntry()
    group = about.group or group_of(address, config.group_by) or digest
    return group, about.split or split_of(group, config.held_out), about


def _split_sentence(run: View) -> str:
    """Say who is held out. Performers without a name are counted only."""
    digests = run.inputs.video_digests
    sides = [_performer(run, video.address, digest)[:2] for video, digest in digests.items()]
    performers, out = {group for group, _ in sides}, sorted({group for group, split in sides if split == "held_out"})
    named = [group for group in out if group not in digests.values()]
    names = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
    videos = sum(split == "held_out" for _, split in sides)
    return (
        f"held out to judge on: {len(out)} of {len(performers)} performers{f' ({names})' if names else ''}, "
        f"{videos} of {len(sides)} videos"
    )


def _cut(video: Path, item: Item, worker: Worker) -> Output:
    config = worker.config.clips
    people = partial(_people, worker) if config.crop == "person" else None
    objects: dict[str, bytes] = {}
    clips: list[Window] = []
    dropped: list[DroppedWindow] = []
    traits = item.action.config.get("reading", ())
    encode = partial(encode_video, preset="superfast") if LARGE in traits else encode_video
    whole = probe(video).duration
    for part in cut_video(video, item.action.inputs["video"], config, people, traits):
        if isinstance(part, CutClip):
            objects[f"{part.index:03d}.mp4"] = encode(part.frames, config.fps)
            objects[f"{part.index:03d}.png"] = encode_png(part.frames[part.reference_index])
            start, crop = round(part.start, 4), part.crop
            clips.append(Window(index=part.index, start=start, crop=crop, reference_index=part.reference_index))
        else:
            dropped.append(part)
        worker.progress(*_reached(part.start, whole))
    # cut_video raises Rejected when no clip comes out.
    return Output(CutVideo(clips=tuple(clips), dropped=tuple(dropped)), objects)


def _reached(seconds: float, whole: float | None) -> tuple[int, int]:
    """Return how far a video is cut, in milliseconds, and its length. Where the header has no length, the report is a
    sign of life only."""
    return (round(1000 * min(seconds, whole)), max(1, round(1000 * whole))) if whole else (0, 1)


def _people(worker: Worker, picture: np.ndarray) -> list[Box]:
    return [person.box for person in worker.extractor.find_people(picture)]


def reasons(run: View, stage: str) -> tuple[int, str]:
    """Return the number of a stage's items, and text with the most frequent reasons for rejecting one."""
    entries = run.results[stage]
    counts = Counter(entry.result.reason for entry in entries if entry.result is not None)
    return len(entries), ", ".join(f"{count} x {reason}" for reason, count in counts.most_common(3))


@dataclass(frozen=True)
class NamedClip:
    """A clip with its name for people and the key of the action that cut it."""

    name: str
    clip: Clip
    action: str
    another: str | None = None
    """Name of the picture of another person that is the clip's reference image; None: the person of the video."""


@joined
def named_clips(run: View) -> list[NamedClip]:
    """Return all clips of the run, with prompt, group and split as the config and its metadata table say."""
    config = run.config.clips
    clips: list[NamedClip] = []
    for item, result in run.done(Clips):
        source = item.action.inputs["video"]
        group, split, about = _performer(run, item.source or "", source)
        for window in CutVideo.model_validate(result.record).clips:
            clip = Clip(
                clip_id=f"{source[:16]}-{window.index:03d}",
                source=source,
                index=window.index,
                start=window.start,
                frames=config.frames,
                width=config.width,
                height=config.height,
                fps=config.fps,
                crop=window.crop,
                reference_index=window.reference_index,
                video=blob(result, f"{window.index:03d}.mp4"),
                reference=blob(result, f"{window.index:03d}.png"),
                prompt=about.prompt or config.prompt,
                group=group,
                split=split,
            )
            another = _another(run, clip, about)
            if another is not None:
                clip = clip.model_copy(update={"reference": run.inputs.references[another]})
            clips.append(NamedClip(f"{item.name} #{window.index:03d}", clip, result.key, another))
    return clips


def _names(videos: Sequence[Video]) -> list[str]:
    """Return file names, with the folder where a name occurs twice. They fit on a line and into JSON."""
    seen = Counter(video.name for video in videos)
    names = [video.name if seen[video.name] == 1 else f"{video.folder}/{video.name}" for video in videos]
    return ["".join(sign if sign.isprintable() else "?" for sign in name) for name in names]
