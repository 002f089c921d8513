"""Animate a long driving video in segments, of which each goes on from the last pictures of the one before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ipa_core.config import CandidatesConfig
from ipa_core.generation.candidates import encode_clip, generate
from ipa_core.generation.sampler import Progress
from ipa_core.models.animation import AnimationModel, Driving
from ipa_core.records import PoseSequence


def segments(frames: int, length: int, overlap: int) -> list[range]:
    """Return the frames of each segment: ``length`` of them, the first ``overlap`` shared with the segment before.

    The last segment may reach beyond the last frame. Raises ``ValueError`` when there is not one whole segment.
    """
    if frames < length or not 0 < overlap < length:
        raise ValueError(f"{frames} frames hold no segment of {length} that shares {overlap}")
    return [range(start, start + length) for start in range(0, frames - overlap, length - overlap)]


def animate_segments(
    model: AnimationModel,
    driving: Driving,
    reference: np.ndarray,
    prompt: str,
    config: CandidatesConfig,
    *,
    length: int,
    overlap: int,
    seed: int,
    tell: Callable[[int, int], Progress] = lambda number, count: lambda done, whole: None,
) -> np.ndarray:
    """Return a video uint8 ``[T, H, W, 3]`` in which the person in ``reference`` moves as in the driving video of T
    frames. Where the last segment reaches beyond them, the last frame is held, and the rest of the video cut off.

    Segment n has the seed ``seed + n``. ``tell(n, count)`` returns the progress of segment n. For ``overlap`` see
    ``before`` in :meth:`~ipa_core.models.AnimationModel.encode_conditioning`.
    """
    frames = driving.frames()
    parts = segments(len(driving.pose), length, overlap)
    made: list[np.ndarray] = []
    for number, part in enumerate(parts):
        places = np.minimum(part, len(driving.pose) - 1)
        shown = frames[places]
        found = None if driving.found is None else _part(driving.found, places)
        piece = Driving(_part(driving.pose, places), lambda shown=shown: shown, found)  # type: ignore[misc]
        control = model.draw(piece, config.drawing)
        before = made[-1][-overlap:] if made else None
        conditioning = encode_clip(model, control, reference, prompt, config, before)
        progress = tell(number, len(parts))
        made.append(generate(model, conditioning, [seed + number], config, progress).videos[0])
    return np.concatenate([made[0], *(video[overlap:] for video in made[1:])])[: len(driving.pose)]


def _part(pose: PoseSequence, places: np.ndarray) -> PoseSequence:
    return replace(pose, keypoints=pose.keypoints[places], confidence=pose.confidence[places])
