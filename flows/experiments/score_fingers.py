"""`ipa lab score train`: train the finger network on pairs of hands, rendered and real, whole and spoilt.

Pairs are kept in a folder, one file per person, so the same command goes on where it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from storage.digest import digest_file

if TYPE_CHECKING:
    from ipa_core.pose.mediapipe import MediaPipeExtractor
    from ipa_core.scoring.finger_samples import Stack

log = logging.getLogger(__name__)
FIRST_PERSON = 10_000
"""First seed of the rendered people; nothing else renders these."""
WINDOW = 256
"""Side of the rendered windows in pixels."""
FRAMES, FPS = 4, 2.0
BACKDROPS = 0.6
"""Share of the rendered hands in front of a texture."""
RECORDING_FPS = 4.0
NATIVE = 110.0
"""Largest size of a hand, in pixels, that a pair is made from."""


def train_fingers(
    folder: Path, weights: Path, *, subjects: int, steps: int, processes: int, recordings: Path | None = None
) -> None:
    """Train the network on ``subjects`` rendered people and on the hands in the mp4 files of ``recordings``."""
    from ipa_core.scoring.finger_training import Material, train

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"person-{seed}.npz" for seed in range(FIRST_PERSON, FIRST_PERSON + subjects)]
    clips = sorted(recordings.rglob("*.mp4")) if recordings else []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_pairs_of_person, path) for path in files if not path.exists()]
        made = [folder / f"clip-{digest_file(clip)[:16]}.npz" for clip in clips]
        jobs += [
            pool.submit(_pairs_of_clip, clip, path)
            for clip, path in zip(clips, made, strict=True)
            if not path.exists()
        ]
        started = time.monotonic()
        for number, job in enumerate(as_completed(jobs), 1):
            job.result()
            if number % 10 == 0 or number == len(jobs):
                left = (time.monotonic() - started) / number * (len(jobs) - number)
                log.info("pairs of %d of %d people, about %.0f s left", number, len(jobs), left)
    material = Material.load(files + made, real=len(made))
    recipe = {
        "people": f"{FIRST_PERSON} to {FIRST_PERSON + subjects - 1}",
        "recordings": ", ".join(digest_file(clip)[:16] for clip in clips),
    }
    train(material, weights, steps=steps, recipe=recipe)


def _pairs_of_person(path: Path) -> None:
    seed = int(path.stem.removeprefix("person-"))
    _write(path, stacks_of_person(seed), np.random.default_rng([seed, 3]))


def _pairs_of_clip(clip: Path, path: Path) -> None:
    _write(path, [[stack] for stack in stacks_of_clip(clip)], np.random.default_rng(int(digest_file(clip)[:8], 16)))


def _write(path: Path, hands: list[list[Stack]], rng: np.random.Generator) -> None:
    import cv2

    from ipa_core.scoring.finger_samples import samples

    cv2.setNumThreads(1)
    pairs = [pair for hand in hands for pair in samples(hand, rng)]
    part = path.with_suffix(".part.npz")
    np.savez(
        part,
        pictures=np.stack([np.concatenate([pair.ours, pair.theirs], axis=2) for pair in pairs]),
        drawn=np.stack([pair.drawn for pair in pairs]),
        kind=np.array([pair.kind or "" for pair in pairs]),
        size=np.array([pair.size for pair in pairs]),
    )
    part.rename(path)


def stacks_of_person(seed: int, *, size: int = WINDOW, frames: int = FRAMES, fps: float = FPS) -> list[list[Stack]]:
    """Render both hands of a person and of another one who moves alike; some stand in front of a texture."""
    from ipa_core.people.hand_windows import render_hands
    from ipa_core.scoring.finger_samples import Stack
    from ipa_core.scoring.harmless import ringed, texture

    rng = np.random.default_rng([seed, 4])
    found = []
    for shown in render_hands(seed, size=size, frames=frames, fps=fps):
        behind = texture((size, size), rng) if rng.random() < BACKDROPS else None
        stacks = []
        for window in shown:
            points = _found(window.frames, window.points)
            large = float(np.percentile(np.ptp(points, axis=1).max(axis=1), 75))
            pictures = window.frames
            if rng.random() < 0.1:
                pictures = ringed(pictures, points, large, rng)
            if behind is not None:
                pictures = np.where(window.outside[..., None], behind, pictures)
            stacks.append(Stack(pictures, points, large))
        found.append(stacks)
    return found


def stacks_of_clip(clip: Path) -> list[Stack]:
    """Return the hands of the main person of a recording in windows like the rendered ones, FRAMES frames each."""
    from ipa_core import keypoints as kp
    from ipa_core.people.hand_windows import MARGIN
    from ipa_core.scoring.finger_samples import Stack
    from ipa_core.video import frames as decode
    from ipa_core.video import probe

    step = max(1, round(probe(clip).fps / RECORDING_FPS))
    pictures = np.stack([frame.picture for number, frame in enumerate(decode(clip)) if number % step == 0])
    pose = _extractor().extract(pictures)
    found = []
    for part in kp.HANDS.values():
        sure = np.flatnonzero((pose.confidence[:, part] > 0.5).all(axis=1))
        for chosen in _groups(sure, FRAMES):
            points = pose.keypoints[chosen][:, part].astype(np.float64)
            size = float(np.percentile(np.ptp(points, axis=1).max(axis=1), 75))
            if size < 24:
                continue
            share = min(1.0, NATIVE / size)
            side = round(MARGIN * size * share)
            cuts = [_around(pictures[frame], hand, side, share) for frame, hand in zip(chosen, points, strict=True)]
            found.append(Stack(np.stack([cut for cut, _ in cuts]), np.stack([hand for _, hand in cuts]), size * share))
    return found


def _groups(frames: np.ndarray, length: int) -> Iterator[np.ndarray]:
    for start in range(0, len(frames) - length + 1, length):
        yield frames[start : start + length]


def _around(picture: np.ndarray, points: np.ndarray, side: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut a square of ``side`` pixels, after shrinking, around the hand; return it and the points in it."""
    import cv2

    if share < 1:
        picture = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        points = points * share
    left, top = np.round((points.min(axis=0) + points.max(axis=0)) / 2 - side / 2)
    # cv2 counts from the centre of the first pixel on both sides, so whole shifts need no correction.
    move = np.array([[1, 0, -left], [0, 1, -top]])
    cut = cv2.warpAffine(picture, move, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cut, points - (left, top)


def _found(frames: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Return the hand's points as MediaPipe's network finds them around the rendered joints ``[T, 21, 2]``."""
    from ipa_core.pose.hand_network import hand_region

    network = _extractor()._hand_network
    return np.stack([network.hand(frame, hand_region(hand)).points for frame, hand in zip(frames, joints, strict=True)])


@cache
def _extractor() -> MediaPipeExtractor:
    from ipa_core.config import PosesConfig
    from ipa_core.pose.mediapipe import MediaPipeExtractor

    return MediaPipeExtractor(PosesConfig())
