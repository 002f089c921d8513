"""The videos that the hand score is fitted to and judged on: faultless and spoilt ones, with and without nuisances.

The people who judge are others, seen by other cameras, with hands of other sizes, than the people of the fit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from flows.experiments.score_material import Subject, View, in_other_colours, people, points_of, sides
from ipa_core.records import PoseSequence
from storage.digest import digest_bytes

FIRST_FITTED, FIRST_TESTED = 0, 1000
"""First seeds of the people to fit on and of those to test on."""
FIRST_LONG = 2100
"""First seed of the people of long clips to test on."""
PERFORMER = "performer"
"""The nuisance that renders the motion again in other colours. It is the first one of a video."""
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
    from ipa_core.scoring.finger_faults import spoil
    from ipa_core.scoring.nuisances import disturb

    seed, other = int(trial.key()[:8], 16), int(trial.key()[8:16], 16)
    hands = [points_of(pose, side) for side in sides(pose)]
    video = in_other_colours(trial.subject, 50_000 + other % 1000) if PERFORMER in trial.nuisances else frames
    if trial.kind is not None:
        for points in hands if seed % 2 else [hands[seed // 2 % len(hands)]]:
            video = spoil(trial.kind, video, points, trial.severity, seed)
    for name in trial.nuisances:
        if name != PERFORMER:
            video = disturb(name, video, hands, other)
    return video
