"""Animate one picture with one driving video, outside of any run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from flows.cli.options import writing
from flows.engine.components import Components, components
from flows.engine.progress import Progress
from flows.training.job import LORA
from ipa_core.clips.cut import CutClip, cut_video
from ipa_core.config import ConfigError, RunConfig
from ipa_core.drawing import draw_sequence
from ipa_core.records import Box, PoseSequence, Rejected
from ipa_core.video import decode_picture, encode_video, probe
from storage.digest import FileDigests

_PHONE_PICTURES: Final = frozenset({b"heic", b"heix", b"heif", b"mif1", b"msf1", b"avif", b"avis"})


def animate_clip(
    config: RunConfig, reference: Path, driving: Path, output: Path, *, lora: Path | None, prompt: str | None, seed: int
) -> None:
    """Animate ``reference`` with the first clip of ``driving`` into an mp4. Raises ``ConfigError`` for files that can't
    be used, and ``MissingModel``."""
    # All that is told is looked at before any work.
    weights = None if lora is None else lora_bytes(lora)
    picture = _fit(_picture(reference), config.clips.width, config.clips.height)
    _make_room(output)
    parts = components()
    parts.model_folder(config.candidates.model)
    progress = Progress()
    progress.line(f"looking for a clip and its pose in {driving.name}")
    pose = _driving_pose(config, driving, parts, progress)
    progress.line(f"loading the model {config.candidates.model.path}")
    from ipa_core.generation.candidates import animate  # Loads torch.

    model = parts.animation_model(config.candidates.model, config.execution, weights, True)
    control = draw_sequence(pose, config.candidates.drawing)
    words = config.clips.prompt if prompt is None else prompt
    steps = config.candidates.steps

    def tell(done: int, whole: int) -> None:
        progress.share(f"step {done} of {steps}" if done <= steps else "decoded", done / whole)

    video = animate(model, control, picture, words, config.candidates, seed, tell)
    output.write_bytes(encode_video(video, config.clips.fps))


def lora_bytes(lora: Path) -> bytes:
    """Read the LoRA's file or its folder. Raises ``ConfigError`` when there is no such file, or it holds no LoRA."""
    from safetensors import SafetensorError, safe_open

    path = lora / LORA if lora.is_dir() else lora
    try:
        data = path.read_bytes()
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
    except OSError as error:
        about = f"there is no {path.name}" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(f"--lora {lora}: {about}; name a LoRA folder, such as a run's `lora`") from None
    except SafetensorError:
        names = []
    if not any(".lora_" in name for name in names):
        raise ConfigError(f"--lora {lora}: {path.name} holds no LoRA; name a LoRA folder, such as a run's `lora`")
    return data


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


def _driving_pose(config: RunConfig, driving: Path, parts: Components, progress: Progress) -> PoseSequence:
    """Find the pose in the first clip of the video. Raises ``ConfigError`` if there is none."""
    if driving.exists() and not driving.is_file():  # Reading a pipe would wait for ever.
        raise ConfigError(f"--driving {driving} is no regular file; name a video")
    extractor = parts.pose_extractor(config.poses)
    try:

        def people(picture: np.ndarray) -> list[Box]:
            return [person.box for person in extractor.find_people(picture)]

        source = FileDigests(None).file(driving)
        cut = cut_video(driving, source, config.clips, people if config.clips.crop == "person" else None)
        clip = next(part for part in cut if isinstance(part, CutClip))  # It raises Rejected when there is none.
        progress.line(_used(config, clip, probe(driving).duration))
        return extractor.extract(clip.frames)
    except Rejected as finding:
        raise ConfigError(f"--driving {driving} can't be used: {finding}; name another video") from None
    finally:
        extractor.close()


def _used(config: RunConfig, clip: CutClip, duration: float | None) -> str:
    """Say which part of the driving video is used."""
    end = clip.start + config.clips.frames / config.clips.fps
    used = f"the pose comes from {config.clips.frames} pictures, {clip.start:.2f} s to {end:.2f} s of the video"
    if duration is None or duration < end + 1 / config.clips.fps:
        return used
    return f"{used}; its other {duration - end + clip.start:.2f} s are not used (clips.frames and clips.fps decide)"


def _fit(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the largest centred part of the target's aspect ratio, resized."""
    rows, columns = picture.shape[:2]
    scale = min(columns / width, rows / height)
    part_width, part_height = round(width * scale), round(height * scale)
    left, top = (columns - part_width) // 2, (rows - part_height) // 2
    part = picture[top : top + part_height, left : left + part_width]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(part, (width, height), interpolation=method))
