"""Held-out clips, base against aligned model with the same seeds. First wave: an item per (clip, model); second: the
comparison. The base half does not depend on the LoRA, so it is computed once for all alignments."""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter

from flows.stage import Inputs, Item, Output, Results, StageItems, blob, key_config
from flows.stages.candidates import condition, settings_of
from flows.stages.finetune import lora_digest
from flows.stages.poses import posed_clips
from flows.workbench import Workbench
from ipa_core.config import ExtractorConfig, RunConfig
from ipa_core.evaluation import ClipResult, Comparison, compare, video_metrics
from ipa_core.records import PoseSequence
from ipa_core.video import decode_video, encode_video
from storage import Action

NAME: Final = "evaluation"
VERSION: Final = 1
PLACE: Final = "gpu"
_RESULTS = TypeAdapter(tuple[ClipResult, ...])


def clip_items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    lora = lora_digest(results)
    held_out = [entry for entry in posed_clips(config, results) if entry[0].clip.split == "held_out"]
    found: list[Item] = []
    # All of one model, then all of the other: each is loaded once.
    for model in ("base", "aligned"):
        if model == "aligned" and lora is None:
            continue
        for named, pose in held_out[: config.evaluation.max_clips]:
            clip = named.clip
            settings = settings_of(config, clip.prompt)
            settings["per_clip"] = config.evaluation.per_clip
            settings["clip_id"] = clip.clip_id
            settings["features"] = {
                name: extractor.sha256.lower() for name, extractor in _extractors(config) if extractor is not None
            }
            settings["scores"] = key_config(config.scores) | {"backend": config.poses.backend}
            bytes_of = {
                "model": inputs.model_weights(),
                "clip": clip.video,
                "reference": clip.reference,
                "pose": blob(pose, "pose"),
                "weights": inputs.pose_weights(),
            }
            needs: tuple[str, ...] = (clip.video, clip.reference, blob(pose, "pose"))
            parents: tuple[str, ...] = (named.action, pose.key)
            if model == "aligned" and lora is not None:
                bytes_of["lora"] = lora
                needs = (*needs, lora)
                parents = (*parents, *(entry.item.action.key for entry in results["finetune"]))
            found.append(Item(f"{named.name} {model}", Action(NAME, VERSION, settings, bytes_of), parents, needs))
    return StageItems(tuple(found))


def comparison_item(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    done = clip_results(results)
    if not any(result.model == "aligned" for result in done):
        return StageItems(())
    table = inputs.put(_RESULTS.dump_json(done))
    settings = {"bootstrap": config.evaluation.bootstrap}
    action = Action(NAME, VERSION, settings, {"results": table})
    parents = tuple(entry.item.action.key for entry in results[NAME])
    return StageItems((Item("comparison", action, parents, needs=(table,)),))


def _extractors(config: RunConfig) -> tuple[tuple[str, ExtractorConfig | None], ...]:
    return ("fvd", config.evaluation.fvd), ("fid_vid", config.evaluation.fid_vid)


WAVES: Final = (clip_items, comparison_item)


def compute(item: Item, bench: Workbench) -> Output:
    return _compare(item, bench) if "results" in item.action.inputs else _generate(item, bench)


def _generate(item: Item, bench: Workbench) -> Output:
    from ipa_core.generation import candidate_seed, generate

    inputs, objects, config = item.action.inputs, bench.store.objects, bench.config
    model = bench.model(inputs.get("lora"))
    truth = decode_video(objects.get(inputs["clip"]))
    pose = PoseSequence.from_bytes(objects.get(inputs["pose"]))
    count = config.evaluation.per_clip
    seeds = [candidate_seed(inputs["clip"], k, config.candidates.seed) for k in range(count)]
    generated = generate(model, condition(model, item, bench), seeds, config.candidates, bench.progress)
    found: list[ClipResult] = []
    outputs: dict[str, bytes] = {}
    for k, seed in enumerate(seeds):
        outputs[f"{k}.mp4"] = encode_video(generated.videos[k], config.clips.fps)
        # What is judged is what is stored: the encoded video.
        video = decode_video(outputs[f"{k}.mp4"])
        scored = bench.scorer.score(video, truth, pose)
        outputs[f"{k}.pose"] = scored.pose.to_bytes()
        found.append(
            ClipResult(
                clip_id=item.action.config["clip_id"],
                seed=seed,
                model="aligned" if "lora" in inputs else "base",
                metrics=video_metrics(video, truth, pose),
                score=scored.score.model_copy(update={"hands": ()}),
                **{
                    name: bench.features(extractor).pair(video, truth)
                    for name, extractor in _extractors(config)
                    if extractor is not None
                },
            )
        )
    return Output({"results": [result.model_dump(mode="json") for result in found]}, outputs)


def _compare(item: Item, bench: Workbench) -> Output:
    results = _RESULTS.validate_json(bench.store.objects.get(item.action.inputs["results"]))
    base = [result for result in results if result.model == "base"]
    aligned = [result for result in results if result.model == "aligned"]
    comparison = compare(base, aligned, bootstrap=bench.config.evaluation.bootstrap)
    return Output(comparison.model_dump(mode="json"))


def clip_results(results: Results) -> tuple[ClipResult, ...]:
    """Every generated and measured video, base and aligned; in an order that follows from content, not from names."""
    rows = [
        ClipResult.model_validate(row) for _, result in results.done(NAME) for row in result.record.get("results", ())
    ]
    return tuple(sorted(rows, key=lambda row: (row.model, row.clip_id, row.seed)))


def comparison(results: Results) -> Comparison | None:
    for item, result in results.done(NAME):
        if "results" in item.action.inputs:
            return Comparison.model_validate(result.record)
    return None


def nothing_left(config: RunConfig, results: Results) -> str | None:
    if comparison(results) is not None:
        return None
    if results[NAME]:
        return "the aligned model could not be evaluated; the errors are listed above"
    return (
        f"there is nothing to evaluate on: no clip with a pose is held out (clips.held_out is "
        f"{config.clips.held_out}, by group); raise it or add videos of other performers"
    )
