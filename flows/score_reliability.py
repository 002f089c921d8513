"""`ipa score reliability`: which measures tell the candidates of one clip apart, on a run that has scored some."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from pydantic import TypeAdapter

from flows.runs import RunFolder, runs
from ipa_core.config import ConfigError
from ipa_core.evaluation.metrics import video_metrics
from ipa_core.masks import hand_mask
from ipa_core.records import HandMeasures, PoseSequence
from ipa_core.scoring import QualityModel, quality
from ipa_core.scoring.reliability import Measured, Reliability, reliability
from ipa_core.video import decode_video
from storage import ActionResult, Store

_HANDS = TypeAdapter(tuple[HandMeasures, ...])
Measure = Callable[[Sequence[HandMeasures]], float | None]


def run_reliability(store: Store, run_id: str | None, model: QualityModel | None = None) -> dict[str, Reliability]:
    """By measure: the hand score, each of its components, and PSNR-Hand and SSIM-Hand against the driving video, which
    is the truth where the reference image comes from it. Raises :class:`ConfigError` where no run has scores."""
    results = _scores(store, run_id)
    model = model or QualityModel.load()
    measures: dict[str, Measure] = {
        "hand score": lambda hands: _score(hands, model),
        **{name: lambda hands, name=name: _mean(hands, name) for name in quality.UTILITIES},  # type: ignore[misc]
    }
    found: dict[str, list[Measured]] = {name: [] for name in (*measures, "PSNR-Hand", "SSIM-Hand")}
    for result in results:
        inputs = result.action.inputs
        clip = f"{inputs['driving']} {inputs['pose']}"
        hands = [
            hand
            for hand in _HANDS.validate_python(json.loads(store.objects.get(result.outputs["hands.json"].digest)))
            if hand.unscorable is None
        ]
        halves = [[hand for hand in hands if hand.frame % 2 == rest] for rest in (0, 1)]
        for name, measure in measures.items():
            found[name].append(Measured(clip, measure(hands), *(measure(half) for half in halves)))
        for name, three in _against_truth(store, result).items():
            found[name].append(Measured(clip, *three))
    return {name: reliability(values) for name, values in found.items()}


def _scores(store: Store, run_id: str | None) -> list[ActionResult]:
    for folder in [RunFolder(store, run_id)] if run_id else runs(store):
        found = store.actions.lookup("scores", folder.names("scores"))
        if found:
            return [found[key] for key in sorted(found) if found[key].outcome == "done"]
    raise ConfigError("no run of this store has scored candidates; `ipa run CONFIG --to scores` does that")


def _score(hands: Sequence[HandMeasures], model: QualityModel) -> float | None:
    if not hands:
        return None
    means = quality.means(hands, [1.0] * len(hands))
    return quality.score_of(model.logit(quality.features(means, quality.worst(hands))))


def _mean(hands: Sequence[HandMeasures], name: str) -> float | None:
    return quality.means(hands, [1.0] * len(hands)).get(name) if hands else None


def _against_truth(store: Store, result: ActionResult) -> dict[str, tuple[float | None, float | None, float | None]]:
    inputs, read = result.action.inputs, store.objects.get
    video, truth = decode_video(read(inputs["candidate"])), decode_video(read(inputs["driving"]))
    masks = hand_mask(PoseSequence.from_bytes(read(inputs["pose"])))
    parts = [
        video_metrics(video[start::step], truth[start::step], masks[start::step])
        for start, step in ((0, 1), (0, 2), (1, 2))
    ]
    psnr, ssim = [part.psnr_hand for part in parts], [part.ssim_hand for part in parts]
    return {"PSNR-Hand": (psnr[0], psnr[1], psnr[2]), "SSIM-Hand": (ssim[0], ssim[1], ssim[2])}


def reliability_table(found: dict[str, Reliability]) -> str:
    lines = [f"{'measure':<18}{'mean':>8}{'within a clip':>15}{'split-half':>12}  95 % interval"]
    for name, one in sorted(found.items(), key=lambda item: -(item[1].split_half or -2)):
        if one.clips:
            bounds = "" if one.interval is None else f"{one.interval[0]:+.2f} to {one.interval[1]:+.2f}"
            lines.append(
                f"{name:<18}{_text(one.mean, '.3f'):>8}{_text(one.within_share, '.0%'):>15}"
                f"{_text(one.split_half, '+.2f'):>12}  {bounds}".rstrip()
            )
    some = max(found.values(), key=lambda one: one.candidates)
    lines.append(
        f"{some.candidates} candidates of {some.clips} clips. Within a clip: share of the variance between candidates "
        "of one clip. Split-half: even against odd frames, differences from the clip's mean."
    )
    return "\n".join(lines)


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
