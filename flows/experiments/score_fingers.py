"""`ipa lab score train`: train the finger network on pairs of hands, rendered and real, whole and spoilt.

Pairs are kept in a folder, one file per person, so the same command goes on where it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from storage.digest import digest_file

if TYPE_CHECKING:
    from ipa_core.pose.mediapipe import MediaPipeExtractor
    from ipa_core.records import Side
    from ipa_core.scoring.finger_samples import Stack

log = logging.getLogger(__name__)
FIRST_PERSON = 10_000
"""First seed of the rendered people; nothing else renders these."""
WINDOW = 208
"""Side of the rendered windows in pixels."""
FRAMES, FPS = 4, 2.0
BACKDROPS = 0.6
"""Share of the rendered hands in front of a texture."""
RECORDING_FPS = 4.0
NATIVE = 110.0
"""Largest size of a hand, in pixels, that a pair is made from."""
LEAST_SIZE = 24.0
SURE = 0.5
"""Least presence of a recorded hand."""


def train_fingers(
    folder: Path,
    weights: Path,
    *,
    subjects: int,
    processes: int,
    recordings: Path | None = None,
    start: Path | None = None,
) -> None:
    """Train the network on ``subjects`` rendered people and on the hands in the mp4 files of ``recordings``; ``start``:
    weights to begin with."""
    from ipa_core.scoring.finger_training import COURSE, Material, train

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"person-{seed}.npz" for seed in range(FIRST_PERSON, FIRST_PERSON + subjects)]
    clips = sorted(recordings.rglob("*.mp4")) if recordings else []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(pairs_of_person, path) for path in files if not path.exists()]
        made = [folder / f"clip-{digest_file(clip)[:16]}.npz" for clip in clips]
        jobs += [
            pool.submit(_pairs_of_clip, clip, path) for clip, path in zip(clips, made, strict=True) if not path.exists()
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
    if start is not None:
        recipe["start"] = digest_file(start)[:16]
    train(material, weights, course=COURSE, recipe=recipe, start=start)


def pairs_of_person(path: Path) -> None:
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
        where=np.stack([pair.where for pair in pairs]),
        kind=np.array([pair.kind or "" for pair in pairs]),
        size=np.array([pair.size for pair in pairs]),
    )
    part.rename(path)


def stacks_of_person(
    seed: int, *, size: int = WINDOW, frames: int = FRAMES, fps: float = FPS, sides: Sequence[Side] = ("left", "right")
) -> list[list[Stack]]:
    """Render both hands of a person and of another one who moves alike; some stand in front of a texture."""
    from ipa_core.people.hand_windows import render_hands
    from ipa_core.scoring.finger_samples import Stack
    from ipa_core.scoring.harmless import ringed, texture

    rng = np.random.default_rng([seed, 4])
    found = []
    for shown in render_hands(seed, size=size, frames=frames, fps=fps, sides=sides):
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


def stacks_of_clip(clip: Path, *, frames: int = FRAMES, fps: float = RECORDING_FPS) -> list[Stack]:
    """Return the hands in a recording in windows like the rendered ones, ``frames`` frames each. Without a body that
    has wrists in the picture, hands are looked for in the whole picture."""
    from ipa_core.people.hand_windows import MARGIN
    from ipa_core.scoring.finger_samples import Stack
    from ipa_core.video import frames as decode
    from ipa_core.video import probe

    step = max(1, round(probe(clip).fps / fps))
    pictures = [frame.picture for number, frame in enumerate(decode(clip)) if number % step == 0]
    found = []
    for seen in _hands(np.stack(pictures)):
        for chosen in _groups(sorted(seen), frames):
            points = np.stack([seen[frame] for frame in chosen])
            size = float(np.percentile(np.ptp(points, axis=1).max(axis=1), 75))
            if size < LEAST_SIZE:
                continue
            share = min(1.0, NATIVE / size)
            side = round(MARGIN * size * share)
            cuts = [_around(pictures[frame], hand, side, share) for frame, hand in zip(chosen, points, strict=True)]
            found.append(Stack(np.stack([cut for cut, _ in cuts]), np.stack([hand for _, hand in cuts]), size * share))
    return found


def _hands(pictures: np.ndarray) -> list[dict[int, np.ndarray]]:
    """Return the points ``[21, 2]`` of each hand by frame."""
    from ipa_core import keypoints as kp
    from ipa_core.records import Rejected

    try:
        pose = _extractor().extract(pictures)
        return [
            {
                int(frame): pose.keypoints[frame, part].astype(np.float64)
                for frame in np.flatnonzero((pose.confidence[:, part] > SURE).all(axis=1))
            }
            for part in kp.HANDS.values()
        ]
    except Rejected:
        return [_tracked(pictures)]


def _tracked(pictures: np.ndarray) -> dict[int, np.ndarray]:
    """Return by frame the points of the one hand that is found in the whole picture, or near its place before."""
    from ipa_core.pose.hand_network import hand_region

    found: dict[int, np.ndarray] = {}
    network = _extractor()._hand_network
    height, width = pictures.shape[1:3]
    for number, picture in enumerate(pictures):
        marks = _extractor()._landmarks("hand", picture)
        if marks:
            points = np.array([(mark.x, mark.y) for mark in marks[0]]) * (width, height)
        elif number - 1 in found:
            points = network.hand(picture, hand_region(found[number - 1])).points
        else:
            continue
        if network.presence(picture, points) > SURE:
            found[number] = points
    return found


def _groups(frames: list[int], length: int) -> Iterator[list[int]]:
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
