"""Videos with faultless hands, to fit, to train and to judge the hand score.

A rendered person is identified by seed, a real one by file. Nobody is both fitted on and tested on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ipa_core import keypoints as kp
from ipa_core.config import PosesConfig
from ipa_core.records import PoseSequence, Side
from storage.digest import digest_file

if TYPE_CHECKING:
    from ipa_core.people.performers import Performer
    from ipa_core.pose.mediapipe import MediaPipeExtractor

FRAMES = 17
FPS = 8.0
SIZES = (128, 160, 224)
"""Sizes of rendered pictures, pixels; their hands have about 30 to 90."""


@dataclass(frozen=True)
class View:
    """The camera before a rendered person: pixels of the square picture, metres to the body and of what is seen."""

    size: int
    distance: float = 1.45
    height: float = 0.60


@dataclass(frozen=True)
class Gone:
    """A finger that a hand lacks from a joint on (see BodyModel.without_finger)."""

    side: Side
    finger: int
    joint: int


@dataclass(frozen=True)
class Subject:
    """The source of a faultless video. ``person`` is the seed of a rendered person and gesture."""

    person: int | None = None
    path: str | None = None
    digest: str | None = None
    """Digest of the file. Random draws follow from it, not from the file's path."""
    start: int = 0
    frames: int = FRAMES
    view: View | None = None
    """None: the usual camera, and one of SIZES by the person's seed."""

    @property
    def name(self) -> str:
        return f"person {self.person}" if self.person is not None else f"{Path(self.path or '').stem} at {self.start}"

    @property
    def clip(self) -> str:
        """The unit that is resampled for intervals."""
        if self.person is not None:
            return str(self.person)
        return self.digest or ""


def people(first: int, count: int) -> list[Subject]:
    return [Subject(person=seed) for seed in range(first, first + count)]


def recordings(files: Iterable[Path], windows: int, frames: int = FRAMES) -> list[Subject]:
    """Return windows of recordings, spread over each. Files with the same bytes count once."""
    from ipa_core.video import probe

    by_digest = {digest_file(path): path for path in sorted(files, reverse=True)}
    found = []
    for digest, path in sorted(by_digest.items()):
        info = probe(path)
        count = int((info.duration or 0.0) * info.fps)
        # A recording shorter than one window gives one, at the start.
        last = max(0, count - round(info.fps / FPS) * frames)
        starts = sorted(set(np.linspace(0, last, windows).astype(int).tolist()))
        found += [Subject(path=str(path), digest=digest, start=start, frames=frames) for start in starts]
    return found


def material(subject: Subject) -> tuple[np.ndarray, PoseSequence]:
    """Return the faultless video, uint8 ``[T, H, W, 3]``, and its pose as extracted. Raises ``ValueError`` when no hand
    is found in half of the frames."""
    if subject.person is not None:
        from ipa_core.people.performers import random_performer

        frames = rendered(subject, random_performer(subject.person))
        pose = extractor().extract(frames)
    else:
        frames, pose = _recorded(subject)
    if not sides(pose):
        raise ValueError(f"{subject.name}: no hand is found in half of the frames")
    return frames, pose


def rendered(subject: Subject, performer: Performer, gone: Gone | None = None) -> np.ndarray:
    """Render a person's video, with a finger of a hand gone from the mesh if ``gone``."""
    from ipa_core.people.render import render_clip

    seed = subject.person or 0
    view = subject.view or View(SIZES[seed % len(SIZES)])
    return render_clip(
        performer,
        seed=seed,
        size=view.size,
        frames=subject.frames,
        fps=FPS,
        distance=view.distance,
        height=view.height,
        change=None if gone is None else lambda model, posed: model.without_finger(posed, *astuple(gone)),
    ).frames


def in_other_colours(subject: Subject, seed: int, gone: Gone | None = None) -> np.ndarray:
    """Render a person's motion again with another skin, other hair and clothes, before another backdrop."""
    from ipa_core.people.performers import random_performer

    mine, other = random_performer(subject.person or 0), random_performer(seed)
    look = replace(mine, skin=other.skin, hair=other.hair, shirt=other.shirt, backdrop=other.backdrop)
    return rendered(subject, look, gone)


def without_finger(subject: Subject, gone: Gone) -> np.ndarray:
    """Render a person's video again with a finger gone."""
    from ipa_core.people.performers import random_performer

    return rendered(subject, random_performer(subject.person or 0), gone)


def _recorded(subject: Subject) -> tuple[np.ndarray, PoseSequence]:
    """Return a window of a file, cut to the reach of the arms: the rest of a large picture only costs time."""
    from ipa_core.video import frames as decode
    from ipa_core.video import probe

    path = Path(subject.path or "")
    step = max(1, round(probe(path).fps / FPS))
    pictures = islice(decode(path), subject.start, subject.start + step * subject.frames, step)
    frames = np.stack([frame.picture for frame in pictures])
    pose = extractor().extract(frames)
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


@cache
def extractor() -> MediaPipeExtractor:
    from ipa_core.pose.mediapipe import MediaPipeExtractor

    return MediaPipeExtractor(PosesConfig())
