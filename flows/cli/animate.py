"""Animate one picture with one driving video, outside of any run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from flows.cli.options import writing
from flows.engine import loras
from flows.engine.components import Components, check_quantization, components
from flows.engine.helper_processes import check_spread
from flows.engine.loras import lora_path
from flows.engine.progress import Progress
from ipa_core.clips.cut import CutClip, cut_video
from ipa_core.config import CandidatesConfig, ClipsConfig, ConfigError, RunConfig
from ipa_core.models.animation import Driving
from ipa_core.records import Box, PoseSequence, Rejected
from ipa_core.video import decode_picture, encode_video, fitted, probe
from storage.digest import FileDigests

if TYPE_CHECKING:
    from ipa_core.pose import PoseExtractor

_PHONE_PICTURES: Final = frozenset({b"heic", b"heix", b"heif", b"mif1", b"msf1", b"avif", b"avis"})

OVERLAP = 5
"""Frames that a segment of a long video shares with the one before."""


@dataclass(frozen=True)
class Request:
    """What to animate. loras: each as ``FOLDER`` or ``FOLDER:WEIGHT``. whole: the whole video instead of its first
    clip. retarget: give the skeleton the reference person's proportions."""

    reference: Path
    driving: Path
    output: Path
    loras: tuple[str, ...] = ()
    prompt: str | None = None
    seed: int = 0
    whole: bool = False
    overlap: int = OVERLAP
    retarget: bool = False


def animate_clip(config: RunConfig, asked: Request) -> None:
    """Animate the picture into an mp4. Raises ``ConfigError`` for files that can't be used, and ``MissingModel``."""
    # All that is told is looked at before any work.
    own = [lora_weight(text) for text in asked.loras]
    picture = fitted(_picture(asked.reference), config.clips.width, config.clips.height)
    if asked.whole and (asked.overlap not in (1, 5) or asked.overlap >= config.clips.frames):
        raise ConfigError(
            f"--overlap must be 1 or 5 and less than clips.frames ({config.clips.frames}), got {asked.overlap}"
        )
    _make_room(asked.output)
    parts = components()
    check_spread(parts.model_folder(config.candidates.model), config.execution)
    check_quantization(config.candidates.model, config.execution)
    weights = _together(config.candidates, own, parts)
    progress = Progress()
    if config.candidates.loras:
        progress.line(f"adding candidates.loras: {loras.in_words(config.candidates.loras)}")
    progress.line(f"looking for a clip and its pose in {asked.driving.name}")
    driving = _driving(config, asked, parts, picture, progress)
    progress.line(f"loading the model {config.candidates.model.path}")
    from ipa_core.generation.segments import animate_segments  # Loads torch.

    model = parts.animation_model(config.candidates.model, config.execution, weights, True)
    steps = config.candidates.steps

    def tell(number: int, count: int) -> Callable[[int, int], None]:
        segment = f"segment {number + 1} of {count}, " if count > 1 else ""

        def part(done: int, whole: int) -> None:
            progress.share(
                segment + (f"step {done} of {steps}" if done <= steps else "decoded"), (number + done / whole) / count
            )

        return part

    video = animate_segments(
        model,
        driving,
        picture,
        config.clips.prompt if asked.prompt is None else asked.prompt,
        config.candidates,
        length=config.clips.frames,
        overlap=asked.overlap if asked.whole else 1,
        seed=asked.seed,
        tell=tell,
    )
    asked.output.write_bytes(encode_video(video, config.clips.fps))


def lora_weight(text: str) -> tuple[bytes, float]:
    """Read ``FOLDER``, ``FILE``, ``FOLDER:WEIGHT`` or ``FILE:WEIGHT``. Raises ``ConfigError``."""
    path, colon, number = text.rpartition(":")
    if not colon or Path(text).exists():
        return lora_bytes(Path(text)), 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise ConfigError(f"--lora {text}: '{number}' is no weight; write FOLDER:WEIGHT, such as lora:0.8")
    return lora_bytes(Path(path)), weight


def lora_bytes(lora: Path) -> bytes:
    """Read the LoRA's file or its folder. Raises ``ConfigError`` when there is no such file, or it holds no LoRA."""
    return loras.lora_bytes(lora, f"--lora {lora}")


def _together(config: CandidatesConfig, asked: Sequence[tuple[bytes, float]], parts: Components) -> bytes | None:
    """Put the LoRAs together, with those of ``candidates.loras``. Raises ``ConfigError`` when one does not fit."""
    loras.check_added(config.loras, "candidates.loras", config, parts)
    own = [(lora_path(Path(one.path)).read_bytes(), one.weight) for one in config.loras]
    if not asked and not own:
        return None
    try:
        return parts.combined_lora(config.model, [*asked, *own])
    except ConfigError as error:
        raise ConfigError(f"--lora: {error}") from None


def _picture(reference: Path) -> np.ndarray:
    data = reference.read_bytes()
    try:
        return decode_picture(data)
    except Rejected:
        phone = data[4:8] == b"ftyp" and data[8:12] in _PHONE_PICTURES
        problem = "is HEIC or AVIF, which is not read; save it as" if phone else "is no picture; name a"
        raise ConfigError(f"--reference {reference} {problem} PNG or JPEG{'' if phone else ' file'}") from None


def _make_room(output: Path) -> None:
    """Make the folder, and see that the file can be written: minutes of work follow."""
    with writing("--output", output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("ab"):
            pass
        if not output.stat().st_size:
            output.unlink()  # An error on the way leaves no empty video.


def _driving(config: RunConfig, asked: Request, parts: Components, picture: np.ndarray, progress: Progress) -> Driving:
    """Find clip and pose in the video. Raises ``ConfigError`` if there is none."""
    if asked.driving.exists() and not asked.driving.is_file():  # Reading a pipe would wait for ever.
        raise ConfigError(f"--driving {asked.driving} is no regular file; name a video")
    extractor = parts.pose_extractor(config.poses)
    try:
        tried = list(_whole(config.clips, asked)) if asked.whole else [config.clips]
        clip = _first_clip(asked.driving, tried, extractor)
        pictures = clip.frames
        if not asked.whole:
            progress.line(_used(config, clip, probe(asked.driving).duration))
        pose = extractor.extract(pictures)
        shown = _retargeted(pose, picture, extractor, asked) if asked.retarget else pose
        return Driving(shown, lambda: pictures, found=pose)
    except Rejected as finding:
        raise ConfigError(f"--driving {asked.driving} can't be used: {finding}; name another video") from None
    finally:
        extractor.close()


def _first_clip(driving: Path, tried: Sequence[ClipsConfig], extractor: PoseExtractor) -> CutClip:
    """Cut by the first of the settings under which there is a clip. Raises ``Rejected`` when there is none."""

    def people(picture: np.ndarray) -> list[Box]:
        return [person.box for person in extractor.find_people(picture)]

    def first(config: ClipsConfig) -> CutClip:
        cut = cut_video(driving, source, config, people if config.crop == "person" else None)
        return next(part for part in cut if isinstance(part, CutClip))  # It raises Rejected when there is none.

    source = FileDigests(None).file(driving)
    for config in tried[:-1]:
        with suppress(Rejected):
            return first(config)
    return first(tried[-1])


def _used(config: RunConfig, clip: CutClip, duration: float | None) -> str:
    """Say which part of the driving video is used."""
    end = clip.start + config.clips.frames / config.clips.fps
    used = f"the pose comes from {config.clips.frames} pictures, {clip.start:.2f} s to {end:.2f} s of the video"
    if duration is None or duration < end + 1 / config.clips.fps:
        return used
    return f"{used}; its other {duration - end + clip.start:.2f} s are not used (--whole takes them)"


def _whole(clips: ClipsConfig, asked: Request) -> Iterator[ClipsConfig]:
    """Yield settings under which the video is one clip: with all its pictures, and, where it has fewer than its header
    tells, as many as fill whole segments. Cuts are not looked for."""
    available = int((probe(asked.driving).duration or 0) * clips.fps + 1e-6)
    step = clips.frames - asked.overlap
    more = max(0, available - clips.frames)
    for frames in sorted({clips.frames + more, clips.frames + more // step * step}, reverse=True):
        yield clips.model_copy(update={"frames": frames, "cut_threshold": 1.0})


def _retargeted(pose: PoseSequence, picture: np.ndarray, extractor: PoseExtractor, asked: Request) -> PoseSequence:
    from ipa_core.generation.retarget import retarget

    try:
        return retarget(pose, extractor.extract(picture[None]))
    except (Rejected, ValueError) as trouble:
        raise ConfigError(f"--retarget: {asked.reference} can't be used: {trouble}; name another picture") from None
