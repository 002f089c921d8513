"""Videos with faultless hands, and the trials made of them to fit and to judge the hand score.

A rendered person is identified by seed, a real one by file. Nobody is both fitted on and tested on.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flows.engine.components import hand_scorer, score_files
from ipa_core import keypoints as kp
from ipa_core.config import PosesConfig, ScoresConfig
from ipa_core.records import HandMeasures, PoseSequence, Rejected, Side
from storage.digest import digest_bytes, digest_file

if TYPE_CHECKING:
    from ipa_core.pose.mediapipe import MediaPipeExtractor
    from ipa_core.scoring import HandScorer

log = logging.getLogger(__name__)
VERSION = 2
"""Raise it when material or measures change; older measures are then not used."""
SCORES = ScoresConfig()
FRAMES = 17
FPS = 8.0
CLEAN_DRAWS = 3
"""Faultless videos per subject, each with its own nuisance."""
SIZES = (128, 160, 224)
"""Sizes of rendered pictures, pixels; their hands have about 30 to 90."""


@dataclass(frozen=True)
class Subject:
    """The source of a faultless video. ``person`` is the seed of a rendered person and gesture."""

    person: int | None = None
    path: str | None = None
    digest: str | None = None
    """Digest of the file. Random draws follow from it, not from the file's path."""
    start: int = 0

    @property
    def name(self) -> str:
        return f"person {self.person}" if self.person is not None else f"{Path(self.path or '').stem} at {self.start}"

    @property
    def clip(self) -> str:
        """The unit that is resampled for intervals."""
        if self.person is not None:
            return str(self.person)
        return self.digest or ""


@dataclass(frozen=True)
class Trial:
    """One video of a subject: faultless (``kind`` None) or with a fault, then with a nuisance."""

    subject: Subject
    kind: str | None
    severity: int
    draw: int

    def key(self) -> str:
        about = asdict(self)
        about["subject"] = {"person": self.subject.person, "path": self.subject.digest, "start": self.subject.start}
        return digest_bytes(json.dumps([about], sort_keys=True).encode())[:32]


def people(first: int, count: int) -> list[Subject]:
    return [Subject(person=seed) for seed in range(first, first + count)]


def recordings(folder: Path, windows: int) -> list[Subject]:
    """Return windows of the mp4 files below ``folder``, spread over each. Files with the same bytes count once."""
    from ipa_core.video import probe

    files = {digest_file(path): path for path in sorted(folder.rglob("*.mp4"), reverse=True)}
    found = []
    for digest, path in sorted(files.items()):
        info = probe(path)
        count = int((info.duration or 0.0) * info.fps)
        # A recording shorter than one window gives one, at the start.
        last = max(0, count - round(info.fps / FPS) * FRAMES)
        starts = sorted(set(np.linspace(0, last, windows).astype(int).tolist()))
        found += [Subject(path=str(path), digest=digest, start=start) for start in starts]
    return found


def trials(subjects: Iterable[Subject], kinds: Sequence[str], *, all_severities: bool = False) -> list[Trial]:
    """Return, for each subject, some faultless videos and one with each fault. The severity goes round with the
    subjects; with ``all_severities``, for few subjects, there is one of each."""
    found = []
    for number, subject in enumerate(subjects):
        found += [Trial(subject, None, 0, draw) for draw in range(CLEAN_DRAWS)]
        for order, kind in enumerate(kinds):
            severities = (1, 2, 3) if all_severities else (1 + (number + order) % 3,)
            found += [Trial(subject, kind, severity, 10 + order) for severity in severities]
    return found


def material(subject: Subject) -> tuple[np.ndarray, PoseSequence]:
    """Return the faultless video, uint8 ``[T, H, W, 3]``, and its pose as extracted. Raises ``ValueError`` when no hand
    is found in half of the frames."""
    if subject.person is not None:
        from ipa_core.people.performers import random_performer
        from ipa_core.people.render import render_clip

        size = SIZES[subject.person % len(SIZES)]
        clip = render_clip(random_performer(subject.person), seed=subject.person, size=size, frames=FRAMES, fps=FPS)
        frames = clip.frames
        pose = _extractor().extract(frames)
    else:
        frames, pose = _recorded(subject)
    if not sides(pose):
        raise ValueError(f"{subject.name}: no hand is found in half of the frames")
    return frames, pose


def _recorded(subject: Subject) -> tuple[np.ndarray, PoseSequence]:
    """Return a window of a file, cut to the reach of the arms: the rest of a large picture only costs time."""
    from ipa_core.video import frames as decode
    from ipa_core.video import probe

    path = Path(subject.path or "")
    step = max(1, round(probe(path).fps / FPS))
    pictures = islice(decode(path), subject.start, subject.start + step * FRAMES, step)
    frames = np.stack([frame.picture for frame in pictures])
    pose = _extractor().extract(frames)
    arms = [*kp.WRISTS.values(), *kp.ELBOWS.values()]
    parts = np.r_[arms, kp.LEFT_HAND, kp.RIGHT_HAND]
    known = pose.keypoints[:, parts][pose.confidence[:, parts] > 0]
    if not len(known):
        raise ValueError(f"{subject.name}: no arm is found")
    margin = 0.1 * pose.height
    left, top = np.maximum(np.floor(known.min(axis=0) - margin), 0).astype(int)
    right, bottom = np.minimum(np.ceil(known.max(axis=0) + margin), (pose.width, pose.height)).astype(int)
    moved = np.where(pose.confidence[..., None] > 0, pose.keypoints - (left, top), 0).astype(np.float32)
    cut = np.ascontiguousarray(frames[:, top:bottom, left:right])
    return cut, replace(pose, keypoints=moved, width=int(right - left), height=int(bottom - top))


def sides(pose: PoseSequence) -> list[Side]:
    """Return the hands that are there in at least half of the frames."""
    return [side for side, part in kp.HANDS.items() if (pose.confidence[:, part] > 0).all(axis=1).mean() >= 0.5]


def points_of(pose: PoseSequence, side: Side) -> np.ndarray:
    from ipa_core.scoring.measures import hand_points

    return hand_points(pose, side)


def video_of(trial: Trial, frames: np.ndarray, pose: PoseSequence) -> np.ndarray:
    """Return the trial's video: spoil one hand, or both if the seed is odd, then add the nuisance."""
    from ipa_core.scoring.corruptions import corrupt, nuisance

    video = frames
    if trial.kind is not None:
        hands = sides(pose)
        seed = int(trial.key()[:8], 16)
        for side in hands if seed % 2 else [hands[seed // 2 % len(hands)]]:
            video = corrupt(trial.kind, video, points_of(pose, side), trial.severity, seed)
    return nuisance(video, int(trial.key()[8:16], 16))


@dataclass(frozen=True, eq=False)
class Measured:
    """A trial's hands, and the mean handedness score over the scorable ones, for comparison."""

    trial: Trial
    hands: tuple[HandMeasures, ...]
    handedness: float


def measure(all_trials: Sequence[Trial], folder: Path, processes: int) -> list[Measured]:
    """Return measures in the order of ``all_trials``. Those in the folder are not measured again. Subjects without
    hands are left out, with a line in the log."""
    folder = folder / digest_bytes(f"{VERSION} {_digests()}".encode())[:16]
    folder.mkdir(parents=True, exist_ok=True)
    by_subject: dict[Subject, list[Trial]] = {}
    for trial in all_trials:
        if not (folder / f"{trial.key()}.json").exists():
            by_subject.setdefault(trial.subject, []).append(trial)
    if by_subject:
        started = time.monotonic()
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(_measure_subject, group, folder) for group in by_subject.values()]
            for number, job in enumerate(as_completed(jobs), 1):
                trouble = job.result()
                left = (time.monotonic() - started) / number * (len(jobs) - number)
                about = f"; left out: {trouble}" if trouble else ""
                log.info("measured %d of %d subjects, about %.0f s left%s", number, len(jobs), left, about)
    found = []
    for trial in all_trials:
        about = json.loads((folder / f"{trial.key()}.json").read_text())
        if about is not None:
            hands = tuple(HandMeasures.model_validate(hand) for hand in about["hands"])
            found.append(Measured(trial, hands, about["handedness"]))
    return found


def _digests() -> list[str]:
    """Return digests of the files that measures depend on. Coefficients are fitted later."""
    return [digest_file(Path(path)) for name, path in sorted(score_files(SCORES).items()) if name != "coefficients"]


def _measure_subject(group: Sequence[Trial], folder: Path) -> str | None:
    import cv2

    cv2.setNumThreads(1)
    try:
        frames, pose = material(group[0].subject)
    except (Rejected, ValueError, RuntimeError) as error:
        for trial in group:
            (folder / f"{trial.key()}.json").write_text("null")
        return str(error)
    for trial in group:
        video = video_of(trial, frames, pose)
        hands = _scorer().score(video, frames, pose).score.hands
        sure = [
            _extractor().handedness(video[hand.frame], points_of(pose, hand.side)[hand.frame])
            for hand in hands
            if hand.unscorable is None
        ]
        about = {"hands": [hand.model_dump() for hand in hands], "handedness": float(np.mean(sure)) if sure else 0.0}
        path = folder / f"{trial.key()}.json"
        path.with_suffix(".part").write_text(json.dumps(about))
        path.with_suffix(".part").rename(path)
    return None


@cache
def _extractor() -> MediaPipeExtractor:
    from ipa_core.pose.mediapipe import MediaPipeExtractor

    return MediaPipeExtractor(PosesConfig())


@cache
def _scorer() -> HandScorer:
    return hand_scorer(SCORES, _extractor())
