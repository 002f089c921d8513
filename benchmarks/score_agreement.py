"""Does the hand score agree with the truth, on what a model generates? Rank correlations on a finished demo run.

The demo's videos are rendered, so the true video of each candidate is known, and where its hand points really are
(rendered again: extra [synthetic]). For each candidate: PSNR-Hand and SSIM-Hand against the true video, and the
distance of the found hand points from the exact ones over the hand size, a hand that was not found counting as 1.

    ipa demo && python benchmarks/score_agreement.py --store .ipa
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import rankdata

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flows.engine.run_folder import RunFolder
from flows.review.queue import Reviewable, open_queue
from ipa_core.evaluation.metrics import keypoint_error, video_metrics
from ipa_core.masks import hand_mask
from ipa_core.people.dataset import clip_seed
from ipa_core.people.performers import performer_named
from ipa_core.people.render import RenderedClip, render_clip
from ipa_core.records import PoseSequence
from ipa_core.video import decode_video
from storage import Store

RESAMPLES = 2000


@dataclass(frozen=True)
class Row:
    clip: str
    score: float
    truth: dict[str, float]
    """Higher is better in each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--store", default=".ipa")
    parser.add_argument("--run", help="default: the last one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    store = Store(options.store)
    queue = open_queue(store, RunFolder(store, options.run) if options.run else None)
    rows = [judged(one, store) for one in queue.candidates if one.score.score is not None]
    if not rows:
        raise SystemExit("the run has no candidate with a score")
    found = {
        name: {"all": figure(rows, name, spearman), "within": figure(rows, name, within)} for name in rows[0].truth
    }
    if options.json:
        print(json.dumps(found))
        return
    print(f"{len(rows)} candidates of {len({row.clip for row in rows})} clips; rank correlation of the hand score with")
    for name, figures in found.items():
        print(f"  {name:<24} {figures['all']} over all candidates, {figures['within']} within a clip")
    print("In brackets 95 % intervals, bootstrapped over clips.")


def judged(one: Reviewable, store: Store) -> Row:
    read = store.objects.get
    video, truth = decode_video(read(one.candidate.video)), decode_video(read(one.driving))
    metrics = video_metrics(video, truth, hand_mask(PoseSequence.from_bytes(read(one.pose))))
    found = PoseSequence.from_bytes(read(one.found)) if one.found else None
    exact = exact_points(one.name, truth)
    return Row(
        one.candidate.clip_id,
        one.score.score or 0.0,
        {
            "PSNR-Hand": metrics.psnr_hand or 0.0,
            "SSIM-Hand": metrics.ssim_hand or 0.0,
            "- exact keypoint error": -keypoint_error(found, exact),
        },
    )


def exact_points(name: str, truth: np.ndarray) -> np.ndarray:
    """Of the window of the rendered video that a clip is, ``[T, 133, 2]``."""
    named = re.match(r"(\w+)-(\d+)-(\d+)\.mp4", name)
    if named is None:
        raise SystemExit(f"{name} is no video of the demo")
    clip = rendered(named[1], clip_seed(int(named[2]), int(named[3])))
    size = truth.shape[1]
    frames = np.stack([cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in clip.frames[::STEP]])
    starts = range(len(frames) - len(truth) + 1)
    unlike = [np.abs(frames[at : at + len(truth)].astype(int) - truth).mean() for at in starts]
    start = int(np.argmin(unlike))
    if unlike[start] > ALIKE:
        raise SystemExit(f"{name}: this is not what is rendered now; render the demo's videos anew (`ipa lab synth`)")
    return clip.keypoints[::STEP][start : start + len(truth)] * size / SIZE


@cache
def rendered(performer: str, seed: int) -> RenderedClip:
    return render_clip(performer_named(performer), seed=seed, size=SIZE, frames=LENGTH, fps=FPS)


SIZE, LENGTH, FPS = 256, 24, 16.0
"""Of the demo's videos: pixels, frames, frames per second."""
STEP = 2
"""Its clips have 8 frames per second."""
ALIKE = 6.0
"""Mean difference in grey levels between a clip and its rendering."""


def spearman(rows: Sequence[Row], name: str) -> float:
    return correlation(rankdata([row.score for row in rows]), rankdata([row.truth[name] for row in rows]))


def within(rows: Sequence[Row], name: str) -> float:
    """Over all candidates, of the ranks in their own clip."""
    scores: list[float] = []
    truths: list[float] = []
    for clip in dict.fromkeys(row.clip for row in rows):
        mine = [row for row in rows if row.clip == clip]
        scores += list(rankdata([row.score for row in mine]) - (len(mine) + 1) / 2)
        truths += list(rankdata([row.truth[name] for row in mine]) - (len(mine) + 1) / 2)
    return correlation(np.array(scores), np.array(truths))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / size if size else 0.0


def figure(rows: Sequence[Row], name: str, measure: Callable[[Sequence[Row], str], float]) -> str:
    groups = [[row for row in rows if row.clip == clip] for clip in sorted({row.clip for row in rows})]
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        # A clip that was drawn twice is two clips.
        chosen = enumerate(groups[place] for place in rng.integers(len(groups), size=len(groups)))
        again = [Row(f"{number}", row.score, row.truth) for number, group in chosen for row in group]
        drawn.append(measure(again, name))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{measure(rows, name):+.2f} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()
