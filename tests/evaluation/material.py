"""Small exact material for the tests of evaluation."""

from __future__ import annotations

import cv2
import numpy as np

from ipa_core.evaluation import ClipResult, VideoMetrics, compare
from ipa_core.evaluation.comparison import Model
from ipa_core.keypoints import COUNT, HANDS
from ipa_core.records import Decision, HandScore, PoseSequence, ScoreComponents, YieldReport
from ipa_core.reporting.charts import Curve
from ipa_core.reporting.report import CandidateLine, NamedDigest, ReportData, clip_lines
from ipa_core.reporting.run_record import DroppedInput, Fact, RunRecord, StageLine

WIDTH, HEIGHT, FRAMES = 96, 64, 4


def smooth_video(seed: int = 0, frames: int = FRAMES) -> np.ndarray:
    """uint8 ``[T, H, W, 3]`` of soft random colours."""
    noise = np.random.default_rng(seed).integers(0, 256, (frames, HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for picture in noise])


def pose_with_right_hand(shown: tuple[int, ...] = tuple(range(FRAMES))) -> PoseSequence:
    """A right hand of 20 pixels at (30, 32) in the frames ``shown``, and nothing else."""
    keypoints = np.zeros((FRAMES, COUNT, 2), np.float32)
    confidence = np.zeros((FRAMES, COUNT), np.float32)
    angles = np.linspace(0, 2 * np.pi, 21)
    for frame in shown:
        keypoints[frame, HANDS["right"]] = np.stack([30 + 10 * np.cos(angles), 32 + 10 * np.sin(angles)], axis=1)
        confidence[frame, HANDS["right"]] = 0.9
    return PoseSequence(keypoints, confidence, WIDTH, HEIGHT, "presence", "stand-in")


def components(confidence: float | None = 0.7) -> ScoreComponents:
    return ScoreComponents(
        confidence=confidence, size=38.0, pck=0.8, error=0.1, bone_consistency=0.9, jitter=0.05, sharpness=0.9
    )


def result(clip: str, seed: int, model: Model, score: float | None, psnr: float = 20.0) -> ClipResult:
    return ClipResult(
        clip_id=clip,
        seed=seed,
        model=model,
        metrics=VideoMetrics(psnr=psnr, ssim=0.8, psnr_hand=18.0, ssim_hand=0.6),
        score=HandScore(
            score=score,
            unscorable="no hand can be scored" if score is None else None,
            components=components(score),
            good_frames=None if score is None else 0.5,
            hands=(),
        ),
    )


def paired(clips: int, gain: float, spread: float = 0.1, seed: int = 0) -> tuple[list[ClipResult], list[ClipResult]]:
    """Base and aligned results of two seeds per clip; the aligned score is higher by ``gain`` plus noise per clip."""
    rng = np.random.default_rng(seed)
    base, aligned = [], []
    for number in range(clips):
        clip_gain = gain + rng.normal(0, spread)
        for run in range(2):
            score = 0.5 + rng.normal(0, 0.05)
            base.append(result(f"clip{number:03d}", run, "base", score))
            aligned.append(result(f"clip{number:03d}", run, "aligned", score + clip_gain + rng.normal(0, spread / 4)))
    return base, aligned


def candidate_line(number: int, kept: bool, strip: bytes | None = None, clip: str = "waving.mp4") -> CandidateLine:
    score = 0.9 - number * 1e-4
    reason = f"score {score:.3f}, number 1 of the clip" if kept else f"score {score:.3f} is below the threshold 0.950"
    return CandidateLine(
        clip=clip,
        decision=Decision(clip_id=f"{number:04d}", seed=number, score=score, kept=kept, reason=reason),
        components=components(),
        worst={"fingers": 0.25, "pck": 0.75},
        scorable=0.9,
        strip=strip,
    )


def report_data(**changed: object) -> ReportData:
    base, aligned = paired(12, gain=0.2)
    whole = ReportData(
        comparison=compare(base, aligned, bootstrap=200),
        no_comparison=None,
        ruling=None,
        champion=None,
        sheets=(),
        yield_report=YieldReport(
            clips=6,
            candidates=24,
            good=5,
            bad=9,
            unscorable=1,
            kept=4,
            both_good_pairs=2,
            both_bad_pairs=8,
            mixed_pairs=15,
            strict_pairs=3,
            clips_with_strict_pair=2,
        ),
        best_score=0.91,
        candidates=(candidate_line(0, True), candidate_line(1, False)),
        clips=clip_lines(base, aligned, {row.clip_id: f"{row.clip_id}.mp4" for row in base}),
        curves=(
            Curve(
                name="loss", about="-log sigmoid of the gap.", steps=tuple(range(50)), values=(0.69,) * 25 + (0.5,) * 25
            ),
        ),
        digests=(NamedDigest(what="base model", digest="ab" * 32),),
    )
    return whole.model_copy(update=changed)


def stage_line(name: str, **changed: object) -> StageLine:
    counts = {"items": 8, "cached": 3, "computed": 5, "rejected": 1, "failed": 0}
    hours = {"hours": {"gpu": 1.25, "cpu": 0.5}, "cached_hours": {"gpu": 2.0}}
    return StageLine(**({"name": name, "seconds": 60.0} | counts | hours | changed))


def run_record(**changed: object) -> RunRecord:
    whole = RunRecord(
        run="20260102-030405-abcd",
        name="demo",
        state="completed",
        error=None,
        promotion=None,
        started="2026-01-02 03:04 UTC",
        duration="6 min",
        stages=(stage_line("clips"), stage_line("poses")),
        all_stages=("clips", "poses"),
        facts=(Fact(what="machine", value="16 cores, 1 x H200"), Fact(what="commit", value="abcdef123456")),
        dropped=(DroppedInput(source="phone.mp4", window="", stage="clips", reason="no pictures in the file"),),
        past=(),
        config="name: demo\nclips:\n  frames: 9\n",
    )
    return whole.model_copy(update=changed)
