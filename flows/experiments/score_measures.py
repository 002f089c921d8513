"""Measure the trials of the hand score. Videos and the hands found in them are made once; they cost most of the time.
Measures are taken from them again when the measures or the finger network change."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flows.engine.components import hand_scorer, score_files
from flows.experiments.score_material import Subject, extractor, material
from flows.experiments.score_trials import Trial, video_of
from ipa_core.config import NEWEST_SCORE, ScoresConfig, ScoreVersion
from ipa_core.records import HandMeasures, PoseSequence, Rejected
from ipa_core.scoring import quality
from ipa_core.scoring.quality import Seen
from storage.digest import digest_bytes, digest_file

if TYPE_CHECKING:
    from ipa_core.scoring import KeypointHandScorer

log = logging.getLogger(__name__)
MATERIAL = 3
"""Raise it when videos or the pose backend change; older videos are then not used."""
VERSION = 4
"""Raise it when measures change; older measures are then not used."""
SCORES = ScoresConfig()


@dataclass(frozen=True, eq=False)
class Measured:
    """A trial's hands; ``seen`` sums them up, None if none can be scored."""

    trial: Trial
    hands: tuple[HandMeasures, ...]

    @cached_property
    def seen(self) -> Seen | None:
        return seen_of(self.hands)


def seen_of(hands: Collection[HandMeasures]) -> Seen | None:
    """Sum up the scorable hands of a video; None if there is none."""
    scored = [hand for hand in hands if hand.unscorable is None]
    weights = [min(1.0, (hand.size or 0.0) / SCORES.trusted_hand_size) for hand in scored]
    return quality.seen(scored, weights, NEWEST_SCORE) if scored else None


def measure(
    all_trials: Sequence[Trial], folder: Path, processes: int, version: ScoreVersion = NEWEST_SCORE
) -> list[Measured]:
    """Return measures in the order of ``all_trials``, those of a version of the score. What lies in the folder is
    neither made nor measured again (it has about 2 MB a video). Subjects without hands are left out, with a line in the
    log."""
    measured = folder / f"measures-{digest_bytes(f'{VERSION} {_digests(version)}'.encode())[:16]}"
    measured.mkdir(parents=True, exist_ok=True)
    by_subject: dict[Subject, list[Trial]] = {}
    for trial in all_trials:
        if not (measured / f"{trial.key()}.json").exists():
            by_subject.setdefault(trial.subject, []).append(trial)
    if by_subject:
        started = time.monotonic()
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(_measure_subject, group, folder, measured, version) for group in by_subject.values()]
            for number, job in enumerate(as_completed(jobs), 1):
                trouble = job.result()
                left = (time.monotonic() - started) / number * (len(jobs) - number)
                about = f"; left out: {trouble}" if trouble else ""
                log.info("measured %d of %d subjects, about %.0f s left%s", number, len(jobs), left, about)
    found = []
    for trial in all_trials:
        hands = json.loads((measured / f"{trial.key()}.json").read_text())
        if hands is not None:
            found.append(Measured(trial, tuple(HandMeasures.model_validate(hand) for hand in hands)))
    return found


def cut(hands: Sequence[HandMeasures], length: int) -> list[tuple[HandMeasures, ...]]:
    """Cut a clip's hands into clips of ``length`` frames, side by side. Their first and last frames know no tremble, as
    in a clip that is really so short."""
    frames = 1 + max(hand.frame for hand in hands)
    found = []
    for start in range(0, frames - length + 1, length):
        ends = start, start + length - 1
        edge = {"jitter": None, "sway": None}
        found.append(
            tuple(
                hand.model_copy(update=edge) if hand.frame in ends else hand
                for hand in hands
                if ends[0] <= hand.frame <= ends[1]
            )
        )
    return found


def _digests(version: ScoreVersion) -> list[str]:
    """Return digests of the files that measures depend on. Coefficients are fitted later."""
    files = score_files(SCORES.model_copy(update={"version": version}))
    return [digest_file(Path(path)) for name, path in sorted(files.items()) if name != "coefficients"]


def _measure_subject(group: Sequence[Trial], folder: Path, measured: Path, version: ScoreVersion) -> str | None:
    import cv2

    cv2.setNumThreads(1)
    made = Made(folder / f"videos-{MATERIAL}")
    try:
        frames, pose = made.subject(group[0].subject)
    except (Rejected, ValueError, RuntimeError) as error:
        for trial in group:
            (measured / f"{trial.key()}.json").write_text("null")
        return str(error)
    for trial in group:
        video, found = made.trial(trial, frames, pose)
        hands = _scorer(version).measure(video, frames, found, pose)
        path = measured / f"{trial.key()}.json"
        path.with_suffix(".part").write_text(json.dumps([hand.model_dump() for hand in hands]))
        path.with_suffix(".part").rename(path)
    return None


class Made:
    """Videos and poses in a folder, each made on first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def subject(self, subject: Subject) -> tuple[np.ndarray, PoseSequence]:
        path = self._folder / f"{Trial(subject).key()}-driving.npz"
        if not path.exists():
            _keep(path, *material(subject))
        return _kept(path)

    def trial(self, trial: Trial, frames: np.ndarray, pose: PoseSequence) -> tuple[np.ndarray, PoseSequence]:
        path = self._folder / f"{trial.key()}.npz"
        if not path.exists():
            video = video_of(trial, frames, pose)
            _keep(path, video, extractor().extract_hands(video, pose))
        return _kept(path)


def _keep(path: Path, video: np.ndarray, pose: PoseSequence) -> None:
    part = path.with_suffix(".part.npz")
    np.savez(part, video=video, pose=np.frombuffer(pose.to_bytes(), np.uint8))
    part.rename(path)


def _kept(path: Path) -> tuple[np.ndarray, PoseSequence]:
    with np.load(path, allow_pickle=False) as found:
        return found["video"], PoseSequence.from_bytes(found["pose"].tobytes())


@cache
def _scorer(version: ScoreVersion) -> KeypointHandScorer:
    return hand_scorer(SCORES.model_copy(update={"version": version}), extractor())
