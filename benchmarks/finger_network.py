"""How well the finger network tells whole hands from spoilt ones, by hand size, and what else changes its answer.

    python benchmarks/finger_network.py --folder .ipa-score/judged --people 16

People here are rendered from seeds that no training uses. A clip is nine frames of one hand; its number is the mean of
the network's logits over the frames, or over the worst five in a row. AUROC: all whole clips against all clips with a
fault that shows in at least half of the frames. ``--recordings`` judges the hands of the mp4 files in a folder instead.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from flows.experiments.score_fingers import pairs_of_person, stacks_of_clip, stacks_of_person
from flows.experiments.score_fit import auroc
from ipa_core.config import NEWEST_SCORE
from ipa_core.records import Side
from ipa_core.scoring import harmless
from ipa_core.scoring.corruptions import nuisance
from ipa_core.scoring.finger_faults import FAULTS, spoil
from ipa_core.scoring.finger_pairs import FingerPairInspector, crop
from ipa_core.scoring.finger_samples import Stack, aligned, shows
from ipa_core.scoring.quality import FINGER_WEIGHTS

log = logging.getLogger(__name__)
FIRST_PERSON = 900_000
SIZES = (24, 32, 48, 64, 96, 200)
FRAMES, FPS = 9, 4.0
WINDOW = 540
RECORDED_FPS = 12.0
CLEAN = 2
CLASSES = (22, 32, 48, 64)
"""Least sizes of the classes of single frames."""
MOVED = (0.05, 0.1)
"""Errors of the candidate's points, in hand sizes."""


def clips_of(stack: Stack, other: Stack | None, number: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """Yield name, the candidate's and the driving crops uint8 ``[T, SIZE, SIZE, 8]``, and the share of the frames in
    which a fault shows. Names: "whole", faults, and harmless changes with "~" before."""
    frames, points, size = stack.frames, stack.points, stack.size

    def cut(video: np.ndarray, hand: np.ndarray = points) -> np.ndarray:
        return np.stack([crop(picture, place, size) for picture, place in zip(video, hand, strict=True)])

    theirs = cut(frames)
    for draw in range(CLEAN):
        yield "whole", cut(nuisance(frames, 10 * number + draw)), theirs, 1.0
    for order, kind in enumerate(FAULTS):
        spoilt = spoil(kind, frames, points, 1 + (number + order) % 3, number)
        seen = float(np.mean([shows(before, after) for before, after in zip(theirs, cut(spoilt), strict=True)]))
        yield kind, cut(nuisance(spoilt, 10 * number + 5)), theirs, seen
    rng = np.random.default_rng(number)
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "JPEG 60": partial(harmless.as_jpeg, quality=60),
        "H.264 crf 28": partial(harmless.as_h264, crf=28),
        "gamma 0.85": lambda video: ((video / 255.0) ** 0.85 * 255).round().astype(np.uint8),
        "white balance": lambda video: np.clip(video * np.array([1.1, 1.0, 0.9]), 0, 255).astype(np.uint8),
        "brighter by 20": lambda video: np.clip(video.astype(np.int16) + 20, 0, 255).astype(np.uint8),
        "resolution x0.5": partial(harmless.coarser, share=0.5),
        "motion blur": lambda video: harmless.smeared(video, size, rng),
        "grain": lambda video: np.clip(video + rng.normal(0, 6, video.shape), 0, 255).astype(np.uint8),
    }
    for name, change in changes.items():
        yield f"~{name}", cut(nuisance(change(frames), 10 * number)), theirs, 1.0
    for by in MOVED:
        turn = rng.uniform(0, 2 * np.pi)
        moved = points + by * size * np.array([np.cos(turn), np.sin(turn)])
        yield f"~points off by {by:g} hands", cut(nuisance(frames, 10 * number), moved), theirs, 1.0
    if other is not None:
        placed = np.stack([aligned(mine, yours) for mine, yours in zip(points, other.points, strict=True)])
        yield "~another person", cut(nuisance(other.frames, 10 * number), placed), theirs, 1.0


def sized(stack: Stack, size: float) -> Stack:
    side = round(stack.frames.shape[1] * size / stack.size)
    small = np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in stack.frames])
    # Large pictures only cost time.
    edge = max(0, round(side / 2 - size))
    return Stack(
        small[:, edge : side - edge, edge : side - edge], stack.points * (side / stack.frames.shape[1]) - edge, size
    )


def judged(inspector: FingerPairInspector, folder: Path, people: int) -> list[tuple[float, str, float, float]]:
    """Return (size, name, mean, worst) of each clip of the rendered people. Crops are kept in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for person in range(FIRST_PERSON, FIRST_PERSON + people):
        path = folder / f"judged-{person}.npz"
        if not path.exists():
            side: Side = "left" if person % 2 else "right"
            hand = stacks_of_person(person, size=WINDOW, frames=FRAMES, fps=FPS, sides=[side])[0]
            kept(path, [(size, sized(hand[0], size), sized(hand[1], size), person) for size in SIZES])
        rows += answers(inspector, path)
    return rows


def kept(path: Path, hands: list[tuple[float, Stack, Stack | None, int]]) -> None:
    found = [(size, *clip) for size, stack, other, number in hands for clip in clips_of(stack, other, number)]
    np.savez(
        path,
        size=np.array([one[0] for one in found]),
        name=np.array([one[1] for one in found]),
        ours=np.stack([one[2][..., :3] for one in found]),
        theirs=np.stack([one[3] for one in found[:: max(1, len(found) // len(hands))]]),
        group=np.repeat(np.arange(len(hands)), len(found) // len(hands)),
        shown=np.array([one[4] for one in found]),
    )


def answers(inspector: FingerPairInspector, path: Path) -> list[tuple[float, str, float, float]]:
    rows = []
    with np.load(path, allow_pickle=False) as file:
        kept = {name: file[name] for name in file.files}
    for number, name in enumerate(kept["name"]):
        if kept["shown"][number] < 0.5:
            continue
        theirs = kept["theirs"][kept["group"][number]]
        logits = inspector.compare(list(kept["ours"][number]), list(theirs))
        worst = np.convolve(logits, np.ones(5) / 5, "valid").min()
        rows.append((float(kept["size"][number]), str(name), float(logits.mean()), float(worst)))
    return rows


def table(rows: list[tuple[float, str, float, float]], column: int) -> dict[str, dict[str, float]]:
    """Return AUROC of whole clips against each name, by size; ``column`` 2: mean, 3: worst five frames."""
    sizes = sorted({row[0] for row in rows})
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row[1] for row in rows):
        if name == "whole":
            continue
        for size in [*sizes, None]:
            clean, other = (
                np.array([row[column] for row in rows if row[1] == wanted and size in (None, row[0])])
                for wanted in ("whole", name)
            )
            if len(clean) and len(other):
                found.setdefault(name, {})["all" if size is None else f"{size:g}"] = auroc(clean, other)
    return found


def hardest(inspector: FingerPairInspector, folder: Path, people: int) -> list[tuple[float, str, float, float]]:
    """Return (size class, name, logit, logit) of single frames: pairs as in training, by people never trained on. Whole
    and spoilt hands alike have all the harmless changes at once, and most are another person's."""
    rows = []
    for person in range(FIRST_PERSON + 50_000, FIRST_PERSON + 50_000 + people):
        path = folder / f"person-{person}.npz"
        if not path.exists():
            pairs_of_person(path)
        with np.load(path, allow_pickle=False) as file:
            pictures, drawn, kinds, sizes = (file[name] for name in ("pictures", "drawn", "kind", "size"))
        logits = inspector.of_pairs(pictures, drawn)
        classes = np.array(CLASSES)[np.searchsorted(CLASSES[1:], sizes)]
        rows += [
            (float(c), str(k) or "whole", float(x), float(x)) for c, k, x in zip(classes, kinds, logits, strict=True)
        ]
    return rows


def recorded(inspector: FingerPairInspector, folder: Path, recordings: Path) -> list[tuple[float, str, float, float]]:
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for clip in sorted(recordings.rglob("*.mp4")):
        path = folder / f"recorded-{clip.parent.parent.name}-{clip.stem}.npz"
        if not path.exists():
            stacks = stacks_of_clip(clip, frames=FRAMES, fps=RECORDED_FPS)
            if not stacks:
                continue
            kept(path, [(round(stack.size), stack, None, number) for number, stack in enumerate(stacks)])
        rows += [(0.0, *row[1:]) for row in answers(inspector, path)]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path(".ipa-score/judged"))
    parser.add_argument("--weights", type=Path, default=FINGER_WEIGHTS[NEWEST_SCORE])
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--hardest", action="store_true", help="Judge single frames with all harmless changes at once.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    inspector = FingerPairInspector(options.weights)
    if options.recordings:
        rows = recorded(inspector, options.folder, options.recordings)
    elif options.hardest:
        rows = hardest(inspector, options.folder, options.people)
    else:
        rows = judged(inspector, options.folder, options.people)
    both = {"mean": table(rows, 2), "worst five": table(rows, 3)}
    if options.json:
        print(json.dumps(both))
        return
    for title, found in both.items():
        columns = list(next(iter(found.values())))
        print(f"\n| AUROC, {title} | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
        for name, values in found.items():
            cells = [f"{values[column]:.2f}" if column in values else "" for column in columns]
            print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
