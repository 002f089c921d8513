"""The videos that the hand score is fitted to and judged on: faultless and spoilt ones, with and without nuisances.

The people who judge are others, seen by other cameras, with hands of other sizes, than the people of the fit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from flows.experiments.score_material import (
    Gone,
    Subject,
    View,
    in_other_colours,
    people,
    points_of,
    sides,
    without_finger,
)
from ipa_core.records import PoseSequence
from storage.digest import digest_bytes

FIRST_FITTED, FIRST_TESTED = 0, 1000
"""First seeds of the people to fit on and of those to test on."""
FIRST_LONG = 2100
"""First seed of the people of long clips to test on."""
PERFORMER = "performer"
"""The nuisance that renders the motion again in other colours. It is the first one of a video."""
GONE = {
    f"{name} {part}": (finger, joint)
    for part, joint in (("gone", 1), ("tip gone", 3))
    for finger, name in enumerate(("thumb", "index finger", "middle finger", "ring finger", "little finger"))
}
"""Faults of rendered people whose finger (0 to 4) is gone from the mesh from a joint on. Other faults are painted."""
CLEAN_DRAWS = 6
"""Faultless videos of each person of the fit, besides the untouched one."""
FITTED_VIEWS = (View(128), View(96), View(208), View(160), View(320), View(256))
TESTED_VIEWS = (
    View(112, 1.9, 0.66),
    View(176, 1.15, 0.62),
    View(256, 1.9, 0.62),
    View(416, 2.4, 0.64),
    View(88, 1.3, 0.62),
    View(600, 1.6, 0.62),
)
"""Their hands have about 24 to 200 pixels."""


@dataclass(frozen=True)
class Trial:
    """One video of a subject: faultless (``kind`` None) or with a fault, then with nuisances in their order."""

    subject: Subject
    kind: str | None = None
    severity: int = 0
    nuisances: tuple[str, ...] = ()
    draw: int = 0

    def key(self) -> str:
        about = asdict(self)
        about["subject"] |= {"path": None}
        return digest_bytes(json.dumps([about], sort_keys=True).encode())[:32]


def fitted_people(count: int) -> list[Subject]:
    return _seen(people(FIRST_FITTED, count), FITTED_VIEWS, 9)


def tested_people(count: int) -> list[Subject]:
    return _seen(people(FIRST_TESTED, count), TESTED_VIEWS, 9)


def long_clips(first: int, count: int) -> list[Subject]:
    return _seen(people(first, count), (View(128), View(192), View(160)), 81)


def _seen(subjects: list[Subject], views: Sequence[View], frames: int) -> list[Subject]:
    return [replace(one, view=views[number % len(views)], frames=frames) for number, one in enumerate(subjects)]


def trials_to_fit(subjects: Iterable[Subject], kinds: Sequence[str]) -> list[Trial]:
    """Return, for each subject, the untouched video, one with each nuisance, some with several; and each fault in its
    mildest form without, and once with nuisances. The severity of these goes round with the subjects."""
    found = []
    for number, subject in enumerate(subjects):
        found.append(Trial(subject))
        found += [Trial(subject, nuisances=(name,)) for name in nuisances_of(subject)]
        found += [_disturbed(Trial(subject, draw=draw)) for draw in range(1, CLEAN_DRAWS + 1)]
        for order, kind in enumerate(kinds):
            found += [Trial(subject, kind, 1), _disturbed(Trial(subject, kind, 1 + (number + order) % 3))]
    return found


def trials_to_judge(subjects: Iterable[Subject], kinds: Sequence[str]) -> list[Trial]:
    """Return, for each subject, the untouched video, one with each nuisance, three with several; and each fault in its
    mildest form without, and in a severer form with nuisances."""
    found = []
    for number, subject in enumerate(subjects):
        found.append(Trial(subject))
        found += [Trial(subject, nuisances=(name,)) for name in nuisances_of(subject)]
        found += [_disturbed(Trial(subject, draw=draw)) for draw in (1, 2, 3)]
        for order, kind in enumerate(kinds):
            found += [Trial(subject, kind, 1), _disturbed(Trial(subject, kind, 2 + (number + order) % 2))]
    return found


def nuisances_of(subject: Subject) -> tuple[str, ...]:
    from ipa_core.scoring.nuisances import NUISANCES

    return (*NUISANCES, PERFORMER) if subject.person is not None else tuple(NUISANCES)


def _disturbed(trial: Trial) -> Trial:
    """Give one or two nuisances to a trial, in most cases after a decoder's softness and colours."""
    rng = np.random.default_rng(int(trial.key()[:8], 16))
    names = [name for name in nuisances_of(trial.subject) if name != "remake"]
    drawn = [str(name) for name in rng.choice(names, int(rng.integers(1, 3)), replace=False)]
    first = [name for name in drawn if name == PERFORMER]
    soft = ["remake"] if rng.random() < 0.6 else []
    return replace(trial, nuisances=(*first, *soft, *(name for name in drawn if name != PERFORMER)))


def video_of(trial: Trial, frames: np.ndarray, pose: PoseSequence) -> np.ndarray:
    """Return the trial's video: spoil one hand, or both if the seed is odd, then add the nuisances."""
    from ipa_core.scoring.nuisances import disturb

    hands = [points_of(pose, side) for side in sides(pose)]
    _, video = before_nuisances(trial, frames, pose)
    for name in trial.nuisances:
        if name != PERFORMER:
            video = disturb(name, video, hands, _seeds(trial)[1])
    return video


def before_nuisances(trial: Trial, frames: np.ndarray, pose: PoseSequence) -> tuple[np.ndarray, np.ndarray]:
    """Return the faultless video and the spoilt one, both without nuisances other than PERFORMER."""
    from ipa_core.scoring.finger_faults import spoil

    seed, other = _seeds(trial)
    there = sides(pose)
    performer = 50_000 + other % 1000
    whole = in_other_colours(trial.subject, performer) if PERFORMER in trial.nuisances else frames
    if trial.kind in GONE:
        gone = Gone(there[seed % len(there)], *GONE[trial.kind])
        if PERFORMER in trial.nuisances:
            return whole, in_other_colours(trial.subject, performer, gone)
        return whole, without_finger(trial.subject, gone)
    video = whole
    if trial.kind is not None:
        for side in there if seed % 2 else [there[seed // 2 % len(there)]]:
            video = spoil(trial.kind, video, points_of(pose, side), trial.severity, seed)
    return whole, video


def _seeds(trial: Trial) -> tuple[int, int]:
    return int(trial.key()[:8], 16), int(trial.key()[8:16], 16)
