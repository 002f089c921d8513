"""The hand bench: rendered clips of people and motions that no training has seen, with exact hands, by difficulty.

    python -m ipa_core.people.hand_bench bench

writes ``videos/<class>-<number>.mp4``, ``metadata.csv`` (all bench clips held out, the ``train`` clips not) and
``truth.safetensors``. Needs the extra ``[synthetic]``. The same command gives the same files.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
import safetensors
import safetensors.numpy
from blake3 import blake3

from ipa_core import keypoints as kp
from ipa_core.people.dataset import Progress, RenderedSet, Shooting, load_shards, render_shards
from ipa_core.people.performers import PROMPT
from ipa_core.records import Digest
from ipa_core.scratch import scratch_folder
from ipa_core.video import encode_video

Difficulty = Literal["palm", "back", "fast", "self-occluding"]
DIFFICULTIES: Final[tuple[Difficulty, ...]] = get_args(Difficulty)
SHOOTING: Final = Shooting(seed=100, size=96, frames=5, fps=8.0, clips_per_person=1)
"""The seed differs from that of the small model's training, and so do people, motions and colours."""
PER_CLASS: Final = 25
TRAIN_CLIPS: Final = 64
"""Driving videos for candidates. They show yet other people."""
_TRUTH: Final = "truth.safetensors"
_LOOKED_AT: Final = 420
"""Clips rendered to choose from: enough for the rarest class."""
_FAST, _HIDDEN = 0.075, 0.25
_TURNED = 0.3
"""Below this sine of the angle between index and little finger, as seen from the wrist, a hand is edge-on."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The exact truth about a bench clip. keypoints: float32 ``[T, 133, 2]``, pixels; confidence: float32 ``[T, 133]``,
    see :class:`ipa_core.people.render.RenderedClip`; hand_mask: bool ``[T, H, W]``; video: digest of the mp4."""

    keypoints: np.ndarray
    confidence: np.ndarray
    hand_mask: np.ndarray
    video: Digest


def difficulty(keypoints: np.ndarray, confidence: np.ndarray) -> Difficulty:
    """Return the first class that holds of a clip with keypoints ``[T, 133, 2]`` and confidence ``[T, 133]``:

    - fast: hand points move by more than 7.5 % of the hand's size from frame to frame;
    - self-occluding: more than a quarter of the hand points lie behind something;
    - back: a hand turns its back to the camera, or its edge;
    - palm: both palms are seen.
    """
    hands = [(keypoints[:, part], confidence[:, part]) for part in kp.HANDS.values()]
    if np.mean([_speed(points) for points, _ in hands]) > _FAST:
        return "fast"
    if np.mean([(seen < 1).mean() for _, seen in hands]) > _HIDDEN:
        return "self-occluding"
    shown = [_palm_shown(keypoints[:, part]) * (1 if side == "left" else -1) for side, part in kp.HANDS.items()]
    return "palm" if min(shown) > _TURNED else "back"


def _speed(points: np.ndarray) -> float:
    """Return the mean path of a hand's points ``[T, 21, 2]`` from frame to frame, in hand sizes."""
    size = np.linalg.norm(np.ptp(points, axis=1), axis=-1).mean()
    return float(np.linalg.norm(np.diff(points, axis=0), axis=-1).mean() / size)


def _palm_shown(points: np.ndarray) -> float:
    """Return the sine of the angle from index to little finger about the wrist, mean over frames. It is positive for a
    left hand that shows the palm."""
    index, little = points[:, 5] - points[:, 0], points[:, 17] - points[:, 0]
    cross = index[:, 0] * little[:, 1] - index[:, 1] * little[:, 0]
    lengths = np.linalg.norm(index, axis=1) * np.linalg.norm(little, axis=1)
    return float((cross / (lengths + 1e-9)).mean())


def write_bench(output: Path, work: Path, *, progress: Progress | None = None) -> None:
    """Render the bench into the folder ``output``; ``work`` keeps the rendered shards. Raises ``RuntimeError`` when a
    class has too few clips."""
    count = _LOOKED_AT + TRAIN_CLIPS
    rendered = load_shards(render_shards(work, count, SHOOTING, processes=os.cpu_count() or 1, progress=progress))
    chosen = _chosen(rendered)
    chosen |= {f"train-{number:02d}": _LOOKED_AT + number for number in range(TRAIN_CLIPS)}
    videos = output / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, ...]] = []
    truths: dict[str, Truth] = {}
    for name, index in chosen.items():
        data = encode_video(rendered.frames[index], SHOOTING.fps, crf=18)
        (videos / f"{name}.mp4").write_bytes(data)
        held_out = not name.startswith("train")
        rows.append((f"{name}.mp4", PROMPT, f"bench person {index}", "held_out" if held_out else "train"))
        if held_out:
            parts = (rendered.keypoints[index], rendered.confidence[index], rendered.hand_mask[index])
            truths[name] = Truth(*parts, blake3(data).hexdigest())
    with (output / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("file", "prompt", "group", "split"), *rows])
    write_truth(output, truths)


def _chosen(rendered: RenderedSet) -> dict[str, int]:
    """Return the indices of the first clips of each class, by name. Raises ``RuntimeError`` for too few clips."""
    chosen: dict[str, int] = {}
    found = dict.fromkeys(DIFFICULTIES, 0)
    for index in range(_LOOKED_AT):
        kind = difficulty(rendered.keypoints[index], rendered.confidence[index])
        if found[kind] < PER_CLASS:
            chosen[f"{kind}-{found[kind]:02d}"] = index
            found[kind] += 1
    if min(found.values()) < PER_CLASS:
        raise RuntimeError(f"{_LOOKED_AT} clips hold only {found}; {PER_CLASS} of each class are wanted")
    return dict(sorted(chosen.items()))


def write_truth(folder: Path, truths: Mapping[str, Truth]) -> None:
    """Write the file that :func:`load_truth` reads. All clips have one size and length."""
    tensors = {
        "keypoints": np.stack([truth.keypoints for truth in truths.values()]),
        "confidence": np.stack([truth.confidence for truth in truths.values()]),
        "hand_mask": np.packbits(np.stack([truth.hand_mask for truth in truths.values()]), axis=-1),
    }
    videos = json.dumps({name: truth.video for name, truth in truths.items()})
    (folder / _TRUTH).write_bytes(safetensors.numpy.save(tensors, {"videos": videos}))


def load_truth(folder: Path) -> dict[str, Truth]:
    """Return the truth of held-out bench clips by their videos' names without suffix. Raises ``FileNotFoundError``."""
    with safetensors.safe_open(folder / _TRUTH, "np") as file:
        digests: dict[str, Digest] = json.loads(file.metadata()["videos"])
        keypoints, confidence, packed = (file.get_tensor(name) for name in ("keypoints", "confidence", "hand_mask"))
    masks = np.unpackbits(packed, axis=-1).astype(bool)
    return {
        name: Truth(keypoints[row], confidence[row], masks[row], digest)
        for row, (name, digest) in enumerate(digests.items())
    }


def class_of(name: str) -> str:
    """Return the difficulty of a bench clip, from its name."""
    return name.rpartition("-")[0]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--work", type=Path, help="keeps the rendered clips")
    options = parser.parse_args(arguments)
    with scratch_folder() as temporary:
        write_bench(options.output, options.work or temporary)


if __name__ == "__main__":
    main()
