"""`ipa bench`: measure a model, with or without a LoRA, on the hand bench: rendered clips with exactly known hands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from flows.engine.components import Components
from flows.engine.run import Run
from flows.engine.stage import ItemResult, RunStopped, blob
from flows.engine.walk import Scope
from flows.experiments.sweep import check_here
from flows.stages import STAGES
from flows.stages.clips import NamedClip
from flows.stages.evaluation import Evaluated, Evaluation, clip_item
from flows.stages.poses import Poses, posed_clips
from ipa_core.config import ConfigError, RunConfig
from ipa_core.evaluation import ClipResult, video_metrics
from ipa_core.evaluation.comparison import hand_score
from ipa_core.evaluation.differences import Difference, differences
from ipa_core.evaluation.metrics import VideoMetrics, keypoint_error
from ipa_core.people.hand_bench import DIFFICULTIES, Truth, class_of, load_truth
from ipa_core.records import PoseSequence, Record
from ipa_core.reporting.sheets import before_after
from ipa_core.video import decode_video
from storage import Action, ActionResult, Store

ALL: Final = "all"


class BenchRow(Record):
    """Means over one class of clips under one model. Hand numbers are over the exact hand pixels and points."""

    difficulty: str
    model: str
    clips: int
    psnr: float | None
    """``None``, here and below: nothing was measured."""
    ssim: float | None
    psnr_hand: float | None
    ssim_hand: float | None
    keypoint_error: float | None
    """See `ipa_core.evaluation.metrics.keypoint_error`."""
    hand_score: float | None
    hands_found: float | None
    drift: float | None


class BenchReport(Record):
    rows: tuple[BenchRow, ...]
    left_out: tuple[str, ...]
    """Names of the bench's clips without a person found in the driving video."""
    gains: dict[str, Difference]
    """Gains of the model with the LoRA over the base model, over all clips, by metric; empty without a LoRA."""


@dataclass(frozen=True)
class _Measured:
    name: str
    result: ClipResult
    keypoint_error: float
    action: Action
    video: str
    """Digest."""


def run_bench(config: RunConfig, components: Components, lora: bytes | None) -> tuple[BenchReport, bytes | None]:
    """Generate and measure the videos that are not in the store. With a LoRA, also return a picture (JPEG): driving
    video, base and LoRA on the first clip of each class, good or bad.

    ``config`` names the bench's videos and the settings to generate with. Raises :class:`ConfigError` when the videos
    are not the bench's or are cut another way, :class:`RunStopped` when an item fails.
    """
    check_here(config, components)
    truths = _truths(config)
    with Run(config, STAGES, components, Scope(last=Poses.name), experiment=True) as run:
        run.walk(forecast=False)
        measured = _measured(run, truths, [None, run.store.objects.put(lora)] if lora else [None])
    run.check()
    base, adapted = measured[0], measured[1] if lora else []
    left_out = tuple(sorted(truths.keys() - {one.name for one in base}))
    rows = [_row(name, "base", base) for name in (*DIFFICULTIES, ALL)]
    if not adapted:
        return BenchReport(rows=tuple(rows), left_out=left_out, gains={}), None
    rows += [_row(name, "with LoRA", adapted) for name in (*DIFFICULTIES, ALL)]
    pair = [one.result for one in base], [one.result for one in adapted]
    gains = differences([pair], over_seeds=False)
    order = {name: number for number, name in enumerate((*DIFFICULTIES, ALL))}
    rows.sort(key=lambda row: order[row.difficulty])
    report = BenchReport(rows=tuple(rows), left_out=left_out, gains=gains)
    return report, _picture(base, adapted, run.store)


def _picture(base: Sequence[_Measured], adapted: Sequence[_Measured], store: Store) -> bytes:
    clips = []
    for one, other in zip(base, adapted, strict=True):
        inputs = one.action.inputs
        if one.name in {f"{name}-00" for name in DIFFICULTIES}:
            videos = [decode_video(store.objects.get(digest)) for digest in (inputs["clip"], one.video, other.video)]
            clips.append((PoseSequence.from_bytes(store.objects.get(inputs["pose"])), videos))
    return before_after(clips)


def _truths(config: RunConfig) -> dict[str, Truth]:
    """Return the truth of the bench that the config's metadata table belongs to. Raises :class:`ConfigError`."""
    if config.clips.metadata is None:
        raise ConfigError("clips.metadata: the hand bench is where its metadata.csv lies, and none is named")
    folder = Path(config.clips.metadata).parent
    try:
        return load_truth(folder)
    except FileNotFoundError:
        raise ConfigError(f"clips.metadata: {folder} holds no truth.safetensors, so it is no hand bench") from None


def _measured(run: Run, truths: dict[str, Truth], loras: Sequence[str | None]) -> list[list[_Measured]]:
    """Measure every video on the bench's clips: a list for the model with each LoRA, None for the base model."""
    named = [(one, pose) for one, pose in posed_clips(run.view) if one.clip.split == "held_out"]
    items = [
        clip_item(run.view, one, pose, "base" if lora is None else "aligned", lora, ())
        for lora in loras
        for one, pose in named
    ]
    entries = iter(run.items(Evaluation(), items))
    return [_of_model(run, truths, [one for one, _ in named], list(islice(entries, len(named)))) for _ in loras]


def _of_model(
    run: Run, truths: dict[str, Truth], named: Sequence[NamedClip], entries: Sequence[ItemResult]
) -> list[_Measured]:
    found: list[_Measured] = []
    for one, entry in zip(named, entries, strict=True):
        name = one.name.partition(".mp4")[0]
        truth = truths.get(name)
        if truth is None or truth.video != one.clip.source:
            raise ConfigError(f"{one.name} is no video of the hand bench, or was changed")
        if one.clip.index or (one.clip.frames, one.clip.height, one.clip.width) != truth.hand_mask.shape:
            frames, height, width = truth.hand_mask.shape
            raise ConfigError(f"clips: the hand bench's truth is of {frames} whole frames of {width} x {height} pixels")
        if entry.done is None:
            raise RunStopped(f"{entry.item.name} failed: {entry.error}; run the same command again")
        found += _against(truth, name, entry.done, run.store)
    return found


def _against(truth: Truth, name: str, result: ActionResult, store: Store) -> list[_Measured]:
    """Measure with the exact hands instead of the hands that an extractor found in the driving video."""
    driving = decode_video(store.objects.get(result.action.inputs["clip"]))
    found = []
    for k, measured in enumerate(Evaluated.model_validate(result.record).results):
        video = decode_video(store.objects.get(blob(result, f"{k}.mp4")))
        pose = PoseSequence.from_bytes(store.objects.get(blob(result, f"{k}.pose")))
        metrics = video_metrics(video, driving, truth.hand_mask)
        row = measured.model_copy(update={"metrics": metrics})
        video_digest = blob(result, f"{k}.mp4")
        found.append(_Measured(name, row, keypoint_error(pose, truth.keypoints), result.action, video_digest))
    return found


def _row(difficulty: str, model: str, measured: Sequence[_Measured]) -> BenchRow:
    chosen = [one for one in measured if difficulty in (class_of(one.name), ALL)]
    metrics: list[VideoMetrics] = [one.result.metrics for one in chosen if one.result.metrics is not None]
    return BenchRow(
        difficulty=difficulty,
        model=model,
        clips=len({one.result.clip_id for one in chosen}),
        psnr=_mean([one.psnr for one in metrics]),
        ssim=_mean([one.ssim for one in metrics]),
        psnr_hand=_mean([one.psnr_hand for one in metrics]),
        ssim_hand=_mean([one.ssim_hand for one in metrics]),
        keypoint_error=_mean([one.keypoint_error for one in chosen]),
        hand_score=_mean([hand_score(one.result) for one in chosen]),
        hands_found=_mean([one.result.hands_found for one in chosen]),
        drift=_mean([one.result.drift for one in chosen]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return round(sum(there) / len(there), 6) if there else None
