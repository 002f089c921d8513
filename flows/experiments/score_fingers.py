"""`ipa lab score train`: train the finger network on crops of rendered people, whole and corrupted."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from flows.experiments.score_material import Subject, material, people, points_of, sides

log = logging.getLogger(__name__)
FIRST_PERSON = 10_000
"""First seed of the people; nothing else renders these."""
FAULTS = (
    *("finger_erased", "finger_added", "fingers_fused") * 2,
    *("missing", "swapped", "wrong_gesture", "warp", "duplicated"),
)
CLEAN = 5


def train_fingers(folder: Path, weights: Path, *, subjects: int, steps: int, processes: int) -> None:
    """Train the network. Crops are kept in ``folder``, so the same command continues there."""
    from ipa_core.scoring.finger_training import train

    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_crops_of, subject, folder) for subject in people(FIRST_PERSON, subjects)]
        for number, job in enumerate(jobs, 1):
            job.result()
            if number % 10 == 0:
                left = (time.monotonic() - started) / number * (len(jobs) - number)
                log.info("crops of %d of %d people, about %.0f s left", number, len(jobs), left)
    files = sorted(folder.glob("person-*.npz"))
    found = [np.load(path, allow_pickle=False) for path in files]
    crops = np.concatenate([one["crops"] for one in found])
    whole = np.concatenate([one["whole"] for one in found])
    log.info("%d crops of %d people, %d of them whole", len(crops), len(files), int(whole.sum()))
    train(crops, whole, weights, steps=steps)


def _crops_of(subject: Subject, folder: Path) -> None:
    import cv2

    from ipa_core.scoring.corruptions import corrupt, nuisance
    from ipa_core.scoring.finger_training import shows
    from ipa_core.scoring.fingers import SIZE, crop

    path = folder / f"person-{subject.person}.npz"
    if path.exists():
        return
    cv2.setNumThreads(1)
    try:
        frames, pose = material(subject)
    except ValueError:
        return
    rng = np.random.default_rng(subject.person)
    crops: list[np.ndarray] = []
    whole: list[bool] = []
    for side in sides(pose):
        points = points_of(pose, side)
        known = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
        size = float(np.percentile(np.ptp(points[known], axis=1).max(axis=1), 75))

        def cuts(
            video: np.ndarray, chosen: Iterable[int], points: np.ndarray = points, size: float = size
        ) -> list[np.ndarray]:
            return [crop(video[frame], points[frame], size) for frame in chosen]

        for _ in range(CLEAN):
            chosen = known[rng.integers(2) :: 2]
            cut = cuts(nuisance(frames, int(rng.integers(2**31))), chosen)
            crops += cut
            whole += [True] * len(cut)
        for kind in FAULTS:
            chosen = known[rng.integers(2) :: 2]
            spoilt = corrupt(kind, frames, points, int(rng.integers(1, 4)), int(rng.integers(2**31)))
            pairs = zip(cuts(frames, chosen), cuts(spoilt, chosen), chosen, strict=True)
            visible = [frame for before, after, frame in pairs if shows(before, after)]
            cut = cuts(nuisance(spoilt, int(rng.integers(2**31))), visible)
            crops += cut
            whole += [False] * len(cut)
    stacked = np.stack(crops) if crops else np.zeros((0, SIZE, SIZE, 5), np.uint8)
    part = path.with_suffix(".part.npz")
    np.savez(part, crops=stacked, whole=np.array(whole, bool))
    part.rename(path)
