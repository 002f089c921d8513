"""Animate one picture with one driving video, outside of any run."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from flows.engine.components import Components
from flows.engine.progress import Progress
from flows.training.job import LORA
from ipa_core.clips.cut import CutClip, cut_video
from ipa_core.config import ConfigError, RunConfig
from ipa_core.drawing import draw_sequence
from ipa_core.records import Box, Rejected
from ipa_core.video import decode_png, encode_video
from storage.digest import FileDigests


def animate_clip(
    config: RunConfig, reference: Path, driving: Path, output: Path, *, lora: Path | None, prompt: str | None, seed: int
) -> None:
    """Animate ``reference`` with the first clip of ``driving`` into an mp4. Raises ``Rejected`` if there is no clip."""
    progress = Progress()
    progress.line(f"looking for a clip and its pose in {driving.name}")
    from ipa_core.generation.candidates import animate

    weights = None if lora is None else lora_bytes(lora)
    components = Components()
    components.model_folder(config.candidates.model)  # Before any work: its sentence says where to get the weights.
    extractor = components.pose_extractor(config.poses)
    try:

        def people(picture: np.ndarray) -> list[Box]:
            return [person.box for person in extractor.find_people(picture)]

        source = FileDigests(None).file(driving)
        parts = cut_video(driving, source, config.clips, people if config.clips.crop == "person" else None)
        clip = next((part for part in parts if isinstance(part, CutClip)), None)
        if clip is None:
            raise Rejected(f"{driving.name} gives no clip of {config.clips.frames} pictures at {config.clips.fps} fps")
        pose = extractor.extract(clip.frames)
    finally:
        extractor.close()
    progress.line(f"loading the model {config.candidates.model.path}")
    model = components.animation_model(config.candidates.model, config.execution, weights, True)
    picture = _fit(decode_png(reference.read_bytes()), config.clips.width, config.clips.height)
    control = draw_sequence(pose, config.candidates.drawing)
    words = config.clips.prompt if prompt is None else prompt
    steps = config.candidates.steps

    def tell(done: int, whole: int) -> None:
        progress.share(f"step {done} of {steps}" if done <= steps else "decoded", done / whole)

    video = animate(model, control, picture, words, config.candidates, seed, tell)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(encode_video(video, config.clips.fps))


def lora_bytes(lora: Path) -> bytes:
    """Read the LoRA's file or its folder. Raises ``ConfigError`` when the folder has no such file."""
    path = lora / LORA if lora.is_dir() else lora
    if not path.is_file():
        raise ConfigError(f"--lora {lora}: there is no {path.name}; name a LoRA folder, such as a run's `lora`")
    return path.read_bytes()


def _fit(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the largest centred part of the target's aspect ratio, resized."""
    rows, columns = picture.shape[:2]
    scale = min(columns / width, rows / height)
    part_width, part_height = round(width * scale), round(height * scale)
    left, top = (columns - part_width) // 2, (rows - part_height) // 2
    part = picture[top : top + part_height, left : left + part_width]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(part, (width, height), interpolation=method))
