"""`ipa score reliability`: how well each measure tells one clip's candidates apart, on a run that has scored some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from flows.engine.components import score_files
from flows.engine.run_folder import RunFolder
from flows.engine.stage import blob
from flows.stages.judge import version_of
from ipa_core.config import ConfigError, ScoresConfig
from ipa_core.evaluation.metrics import video_metrics
from ipa_core.masks import hand_mask
from ipa_core.records import HandMeasures, PoseSequence
from ipa_core.scoring import QualityModel, quality
from ipa_core.scoring.reliability import Measured, Reliability, reliability
from ipa_core.scoring.scorer import summarise
from ipa_core.video import decode_video
from storage import ActionResult, Store

_HANDS = TypeAdapter(list[HandMeasures])
_SCORE: Final = "hand score"
_OVER_FRAMES: Final = ("bone_consistency", "jitter", "sway")
Values = tuple[float | None, float | None, float | None]
"""Values over all frames, the even frames, the odd frames."""


def run_reliability(folder: RunFolder, store: Store) -> dict[str, Reliability]:
    """Return the reliability of the hand score, its components, and PSNR-Hand and SSIM-Hand against the driving video,
    which is the truth if the reference image comes from it. Raises :class:`ConfigError` when the run has no scores."""
    results = sorted(store.actions.lookup("scores", folder.names("scores")).values(), key=lambda result: result.key)
    if not results:
        raise ConfigError(f"run {folder.run_id} has scored no candidates; `ipa run CONFIG --to scores` does that")
    version = version_of(results[0].action.config)
    scores = folder.config().scores.model_copy(update={"version": version})
    model = QualityModel.load(Path(score_files(scores)["coefficients"]))
    found: dict[str, list[Measured]] = {}
    for result in results:
        if result.outcome == "done":
            clip = f"{result.action.inputs['driving']} {result.action.inputs['pose']}"
            hands = _of_hands(store, result, scores, model)
            score, _, _ = hands[_SCORE]
            for name, values in (hands | _against_truth(store, result)).items():
                found.setdefault(name, []).append(Measured(clip, *values, choice=score))
    return {name: reliability(values) for name, values in found.items()}


def _of_hands(store: Store, result: ActionResult, scores: ScoresConfig, model: QualityModel) -> dict[str, Values]:
    """Return the score and the means of its components, over all, even and odd frames."""
    hands = _HANDS.validate_json(store.objects.get(blob(result, "hands.json")))
    # A measure over several frames uses frames of the other half too.
    alone = [hand.model_copy(update=dict.fromkeys(_OVER_FRAMES)) for hand in hands]
    parts = [hands, *([hand for hand in alone if hand.frame % 2 == rest] for rest in (0, 1))]
    judged = [summarise(list(part), scores, model) for part in parts]
    means = [_means(part, scores, model) for part in parts]
    values: dict[str, Values] = {_SCORE: _three([one.score for one in judged])}
    for name in quality.UTILITIES[model.version]:
        values[name] = _three([one.get(name) for one in means])
    for name in set(_OVER_FRAMES) & set(values):
        values[name] = (values[name][0], None, None)
    return values


def _means(hands: Sequence[HandMeasures], scores: ScoresConfig, model: QualityModel) -> dict[str, float]:
    scored = [hand for hand in hands if hand.unscorable is None]
    weights = [min(1.0, (hand.size or 0.0) / scores.trusted_hand_size) for hand in scored]
    return quality.seen(scored, weights, model.version).mean if scored else {}


def _three(values: Sequence[float | None]) -> Values:
    whole, even, odd = values
    return whole, even, odd


def _against_truth(store: Store, result: ActionResult) -> dict[str, Values]:
    inputs, read = result.action.inputs, store.objects.get
    video, truth = decode_video(read(inputs["candidate"])), decode_video(read(inputs["driving"]))
    masks = hand_mask(PoseSequence.from_bytes(read(inputs["pose"])))
    parts = [
        video_metrics(video[start::step], truth[start::step], masks[start::step])
        for start, step in ((0, 1), (0, 2), (1, 2))
    ]
    return {
        "PSNR-Hand": _three([part.psnr_hand for part in parts]),
        "SSIM-Hand": _three([part.ssim_hand for part in parts]),
    }
