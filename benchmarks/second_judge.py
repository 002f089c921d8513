"""How well the second judge (`evaluation.judge`) tells faultless hands from spoilt ones, and what must not matter.

    python benchmarks/second_judge.py JUDGE --output docs/second-judge.md

JUDGE is the folder of its files. The hands are those of the demo's rendered clips and of N real clips of the package
pose2sim. What the page says before "Measured" is written by people and stays.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.score_validity import _recordings
from flows.experiments.score_fit import auroc
from flows.experiments.score_material import Subject, material, points_of, recordings, sides
from ipa_core.evaluation.second_judge import SecondJudge
from ipa_core.keypoints import HANDS
from ipa_core.records import PoseSequence, Rejected, Side
from ipa_core.scoring.corruptions import CORRUPTIONS
from ipa_core.scoring.finger_faults import HARDER, spoil
from ipa_core.scoring.nuisances import disturb

DEMO = Path(__file__).resolve().parent.parent / "demo" / "videos"
FAULTLESS = ("remake", "jpeg", "h264", "softness", "brightness", "shift_4", "hand_shift", "half")
FAULTS = (*CORRUPTIONS, *HARDER)
SEVERITIES = (1, 3)
FRAMES = 5
RESAMPLES = 1000
HEADING = "## Measured"
EXPLAINED = (
    "Five frames of each hand. Faultless: the true hand after one nuisance (ipa_core/scoring/nuisances.py). Spoilt:",
    "with a fault of severity 1 or 3 (corruptions.py, finger_faults.py), then a nuisance. AUROC: all faultless against",
    "all spoilt hands; 0.5 is blind. Wins: faultless against spoilt of the same hand. In brackets 95 % intervals,",
    "bootstrapped over clips.",
)


@dataclass(frozen=True)
class Judged:
    clip: str
    hand: str
    name: str
    """The fault or the nuisance."""
    severity: int
    """0: faultless."""
    value: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("judge", help="folder of the judge's files")
    parser.add_argument("--demo", type=int, default=4, help="clips of the demo")
    parser.add_argument("--recordings", type=int, default=5, help="real clips of pose2sim")
    parser.add_argument("--output", type=Path, help="page to write")
    options = parser.parse_args()
    started, judge = time.monotonic(), SecondJudge(options.judge)
    files = {"the demo's rendered clips": sorted(DEMO.glob("*.mp4"))[: options.demo]}
    if options.recordings:
        files["real clips"] = _recordings()
    lines = [HEADING, "", *EXPLAINED, ""]
    for name, found in files.items():
        subjects = recordings(found, 1, frames=FRAMES)[: options.recordings if name == "real clips" else options.demo]
        judged, unseen = judged_hands(judge, subjects)
        lines += section(name, judged, unseen)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {time.monotonic() - started:.0f} s"
    command = f"python benchmarks/second_judge.py JUDGE --demo {options.demo} --recordings {options.recordings}"
    lines += [f"{today}, {machine}. Written by `{command}`.", ""]
    text = "\n".join(lines)
    if options.output:
        before = options.output.read_text().partition(HEADING)[0] if options.output.exists() else ""
        options.output.write_text(before + text)
    print(text)


def judged_hands(judge: SecondJudge, subjects: Iterable[Subject]) -> tuple[list[Judged], int]:
    """Return the judgements, and the number of hands that the judge does not see in the untouched clip."""
    found, unseen = [], 0
    for number, subject in enumerate(subjects):
        try:
            frames, pose = material(subject)
        except (ValueError, Rejected) as why:
            print(f"{subject.name}: left out, {why}", file=sys.stderr)
            continue
        for side in sides(pose):
            print(f"{subject.name}, {side}", file=sys.stderr)
            rows = list(judged_hand(judge, subject.clip, *around(frames, pose, side), number))
            found += rows
            unseen += not rows
    return found, unseen


def judged_hand(judge: SecondJudge, clip: str, frames: np.ndarray, pose: PoseSequence, seed: int) -> Iterable[Judged]:
    (side,) = sides(pose)
    points = points_of(pose, side)

    def changed(nuisance: str, kind: str | None = None, severity: int = 0) -> np.ndarray:
        video = frames if kind is None else spoil(kind, frames, points, severity, seed)
        return disturb(nuisance, video, [points], seed)

    spoilt = [(kind, severity) for kind in FAULTS for severity in SEVERITIES]
    videos: list[tuple[str, int, Callable[[], np.ndarray]]] = [
        *((name, 0, partial(changed, name)) for name in FAULTLESS),
        # With a nuisance too: else a fault that the judge does not see would seem better than faultless hands.
        *(
            (kind, severity, partial(changed, FAULTLESS[number % len(FAULTLESS)], kind, severity))
            for number, (kind, severity) in enumerate(spoilt)
        ),
    ]
    values = judge.judge((make() for _, _, make in videos), pose, frames, pose)
    for (kind, severity, _), value in zip(videos, values, strict=True):
        if value is not None:
            yield Judged(clip, f"{clip} {side}", kind, severity, value)


def around(frames: np.ndarray, pose: PoseSequence, side: Side) -> tuple[np.ndarray, PoseSequence]:
    """Cut a video and its pose to one hand and twice its size around it: all else only costs time."""
    points = points_of(pose, side)
    reach = 2 * float(np.nanmax(np.ptp(points, axis=1)))
    left, top = np.maximum(np.floor(np.nanmin(points, axis=(0, 1)) - reach), 0).astype(int)
    right, bottom = np.minimum(
        np.ceil(np.nanmax(points, axis=(0, 1)) + reach), (frames.shape[2], frames.shape[1])
    ).astype(int)
    # An even size, for the codecs.
    right, bottom = right - (right - left) % 2, bottom - (bottom - top) % 2
    confidence = np.zeros_like(pose.confidence)
    confidence[:, HANDS[side]] = pose.confidence[:, HANDS[side]]
    moved = np.where(confidence[..., None] > 0, pose.keypoints - (left, top), 0).astype(np.float32)
    cut = np.ascontiguousarray(frames[:, top:bottom, left:right])
    return cut, replace(pose, keypoints=moved, confidence=confidence, width=int(right - left), height=int(bottom - top))


def section(name: str, judged: Sequence[Judged], unseen: int) -> list[str]:
    hands = len({one.hand for one in judged})
    lines = [
        f"### {name[0].upper()}{name[1:]}",
        "",
        f"{len({one.clip for one in judged})} clips, {hands} hands that the judge sees, {unseen} that it does not see.",
        "",
        "| fault | AUROC | wins |",
        "|---|---|---|",
    ]
    for kind in FAULTS:
        lines.append(f"| {kind.replace('_', ' ')} | {' | '.join(figures(judged, (kind,)))} |")
    lines.append(f"| **all** | {' | '.join(figures(judged, FAULTS))} |")
    lines += ["", "| nuisance | below the mildest faults of its hand |", "|---|---|"]
    for kind in FAULTLESS:
        lines.append(f"| {kind.replace('_', ' ')} | {100 * below(judged, kind):.0f} % |")
    return [*lines, ""]


def figures(judged: Sequence[Judged], kinds: Sequence[str]) -> list[str]:
    """Return AUROC and wins with their intervals, as text."""
    groups = []
    for clip in sorted({one.clip for one in judged}):
        mine = [one for one in judged if one.clip == clip]
        clean = np.array([one.value for one in mine if not one.severity])
        spoilt = np.array([one.value for one in mine if one.name in kinds])
        wins = [
            float(one.value > other.value) + 0.5 * (one.value == other.value)
            for one in mine
            for other in mine
            if one.hand == other.hand and not one.severity and other.name in kinds
        ]
        groups.append((clean, spoilt, np.array(wins)))

    def both(chosen: Iterable[int]) -> tuple[float, float]:
        clean, spoilt, wins = (np.concatenate([groups[number][part] for number in chosen]) for part in range(3))
        return auroc(clean, spoilt), float(wins.mean())

    rng = np.random.default_rng(0)
    drawn = [both(rng.integers(len(groups), size=len(groups))) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return [f"{value:.2f} ({low[part]:.2f}-{high[part]:.2f})" for part, value in enumerate(both(range(len(groups))))]


def below(judged: Sequence[Judged], kind: str) -> float:
    """Return the share of pairs in which a faultless hand is judged below the same hand with a fault of severity 1."""
    pairs = [
        one.value < other.value
        for one in judged
        for other in judged
        if one.name == kind and other.severity == 1 and one.hand == other.hand
    ]
    return float(np.mean(pairs))


if __name__ == "__main__":
    main()
