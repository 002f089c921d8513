"""Does the hand score see that a finger is gone, where a person would see it too?

An erased finger that was folded, or that lies before the hand, changes nothing in the picture. No score can see such a
fault. The tables here say how many show, with more draws than docs/score-validity.md, and judge on these. Faults are
painted over (rendered people and real clips), or the finger is gone from the mesh (rendered people), a fault that
nothing was fitted to or has learnt from. Needs the extra [synthetic] and the package pose2sim.

    python benchmarks/gone_fingers.py --folder .ipa-score/measured
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.score_validity import Judge, _recordings, figures, judge_of
from flows.experiments.score_fit import auroc
from flows.experiments.score_material import Subject, recordings
from flows.experiments.score_measures import Measured, measure
from flows.experiments.score_shown import shown
from flows.experiments.score_trials import GONE, Trial, tested_people, trials_to_judge
from ipa_core.scoring import QualityModel

PAINTED = ("finger_erased", "tip_erased", "thumb_erased")
MORE_DRAWS = (1, 2)
"""A painted fault spoils a random finger, and most of them are folded, so there are more draws of it."""
GROUPS = {
    "erased finger, painted": ("finger_erased",),
    "erased tip, painted": ("tip_erased",),
    "erased thumb, painted": ("thumb_erased",),
    "thumb gone": ("thumb gone",),
    "another finger gone": tuple(kind for kind, (finger, joint) in GONE.items() if finger and joint == 1),
    "tip of the thumb gone": ("thumb tip gone",),
    "tip of another finger gone": tuple(kind for kind, (finger, joint) in GONE.items() if finger and joint == 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path(".ipa-score/measured"))
    parser.add_argument("--people", type=int, default=6, help="rendered people that nothing was fitted to")
    parser.add_argument("--recordings", type=int, default=7, help="number of pose2sim's clips")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    real = recordings(_recordings(), 1, frames=9)[: options.recordings]
    sets: dict[str, tuple[list[Subject], Sequence[str]]] = {
        "Rendered people": (tested_people(options.people), (*PAINTED, *GONE)),
        "Real clips": (real, PAINTED),
    }
    judge = judge_of(QualityModel.load())
    for name, (subjects, kinds) in sets.items():
        if subjects:
            trials = trials_to_judge(subjects, kinds)
            trials += [replace(one, draw=draw) for draw in MORE_DRAWS for one in trials if one.kind in PAINTED]
            found = [one for one in measure(trials, options.folder, options.processes) if one.seen]
            print("\n".join(table(name, found, judge, shown(found, options.folder))), end="\n\n")


def table(name: str, found: Sequence[Measured], judge: Judge, there: set[Trial]) -> list[str]:
    lines = [
        f"| {name} | videos | of them show | AUROC, all | AUROC, those that show | the same without nuisances |",
        "|---|---|---|---|---|---|",
    ]
    clean = [one for one in found if one.trial.kind is None]
    untouched = [one for one in clean if not one.trial.nuisances]
    for group, kinds in GROUPS.items():
        mine = [one for one in found if one.trial.kind in kinds]
        if not mine:
            continue
        seen = [one for one in mine if one.trial in there]
        alone = [one for one in seen if not one.trial.nuisances]
        cells = [str(len(mine)), str(len(seen)), _auroc(clean, mine, judge), _auroc(clean, seen, judge)]
        plain = auroc(*(np.array([judge.score(one) for one in part]) for part in (untouched, alone))) if alone else None
        cells.append("" if plain is None else f"{plain:.2f} ({len(alone)})")
        lines.append(f"| {group} | {' | '.join(cells)} |")
    return lines


def _auroc(clean: Sequence[Measured], spoilt: Sequence[Measured], judge: Judge) -> str:
    """Return the AUROC and its interval over people or files; nothing without spoilt videos."""
    if not spoilt:
        return ""
    as_one = [replace(one, trial=replace(one.trial, kind="fault")) for one in spoilt]
    return str(figures([*clean, *as_one], judge, ("fault",))["auroc"])


if __name__ == "__main__":
    main()
