"""Scoring speed: frames per second and core, the share of it that is spent inside the models, and two processes to one.

A clip of the demo is scored again and again, decoding included, as the stage `scores` does it. "Inside the models" is
the time of the bare calls (palm detection and landmarks by MediaPipe, the landmark network alone, the finger network),
taken in the same run.

    python benchmarks/scoring.py
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIZE, FRAMES, FPS = 480, 17, 8.0
"""Pixels of the square pictures: hands as large as in 480p videos of a person from the waist up."""


class Clock:
    """Sums the time of the calls that it is put around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


class Models:
    """Stands before a model whose calls are timed."""

    def __init__(self, model: Any, name: str, clock: Clock) -> None:
        self._model = model
        setattr(self, name, clock.around(getattr(model, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def score(clip: bytes, repeats: int) -> dict[str, float]:
    """Score the clip against itself; the first time, which loads the models, is not counted."""
    import cv2

    from flows.engine.components import hand_scorer
    from ipa_core.config import PosesConfig, ScoresConfig
    from ipa_core.pose.mediapipe import MediaPipeExtractor
    from ipa_core.video import decode_video

    cv2.setNumThreads(1)
    clock = Clock()
    extractor: Any = MediaPipeExtractor(PosesConfig())
    scorer: Any = hand_scorer(ScoresConfig(), extractor)
    driving = decode_video(clip)
    pose = extractor.extract(driving)
    scorer.score(driving, driving, pose)
    landmarker, network, fingers = extractor._landmarker, extractor._hand_network, scorer._opinions.fingers
    landmarker["hand"] = Models(landmarker["hand"], "detect", clock)
    network._interpreter = Models(network._interpreter, "invoke", clock)
    fingers._network.forward = clock.around(fingers._network.forward)
    started = time.perf_counter()
    for _ in range(repeats):
        scorer.score(decode_video(clip), decode_video(clip), pose)
    seconds = time.perf_counter() - started
    hands = sum(hand.unscorable is None for hand in scorer.score(driving, driving, pose).score.hands)
    return {"seconds": seconds, "models": clock.seconds, "frames": repeats * len(driving), "hands": hands}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clip", type=Path, default=min((ROOT / "demo" / "videos").glob("*.mp4")))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    clip = prepared(options.clip)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        one = pool.submit(score, clip, options.repeats).result()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(score, clip, options.repeats) for _ in range(2)]
        two = [job.result() for job in jobs]
    fps = one["frames"] / one["seconds"]
    result = {
        "frames_per_second_and_core": round(fps, 1),
        "share_inside_models": round(one["models"] / one["seconds"], 3),
        "two_processes_over_one": round(sum(side["frames"] / side["seconds"] for side in two) / fps, 2),
        "scorable_hands": one["hands"],
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['frames_per_second_and_core']:.1f} frames per second and core ({result['scorable_hands']} hands)")
    print(f"inside the models:     {100 * result['share_inside_models']:.1f} % of the time (aim: at least 85 %)")
    print(f"two processes to one:  {result['two_processes_over_one']:.2f} times (aim: at least 1.8 on an idle machine)")


def prepared(path: Path) -> bytes:
    import cv2
    import numpy as np

    from ipa_core.video import encode_video, frames

    pictures = [cv2.resize(frame.picture, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for frame in frames(path)]
    return encode_video(np.stack(pictures[:FRAMES]), FPS)


if __name__ == "__main__":
    main()
