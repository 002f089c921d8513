"""Held-out clips, base and champion against aligned model with the same seeds. First wave: an item per (clip, model);
second: the comparisons. The base half does not depend on the LoRA, so it is computed once for all alignments; the
champion's is what its own round computed when it was the aligned model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from blake3 import blake3
from pydantic import TypeAdapter

from flows.engine.stage import Drop, Inputs, Item, Output, Results, StageItems, blob, key_config
from flows.engine.workbench import Workbench
from flows.stages.candidates import condition, generator, settings_of
from flows.stages.clips import NamedClip, named_clips
from flows.stages.finetune import lora_digest
from flows.stages.people import seen_people
from flows.stages.poses import posed_clips
from ipa_core.config import ExtractorConfig, RunConfig
from ipa_core.evaluation import ClipResult, Comparison, compare, video_metrics
from ipa_core.evaluation.comparison import Model, hands_found
from ipa_core.masks import hand_mask
from ipa_core.records import PoseSequence
from ipa_core.video import decode_video, encode_video
from storage import Action, ActionResult

NAME: Final = "evaluation"
VERSION: Final = 4
PLACE: Final = "gpu"
_RESULTS = TypeAdapter(tuple[ClipResult, ...])


def clip_items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    own = lora_digest(results)
    champion = _opponent(results, inputs)
    held_out = _chosen(
        [entry for entry in posed_clips(config, results) if entry[0].clip.split == "held_out"],
        config.evaluation.max_clips,
    )
    found: list[Item] = []
    dropped: list[Drop] = []
    trained = tuple(entry.item.action.key for entry in results["finetune"])
    # All of one model, then all of the next: each is loaded once.
    for model, lora, parents in (("base", None, ()), ("aligned", own, trained), ("champion", champion, ())):
        if model != "base" and lora is None:
            continue
        trained_on = _trained_on(lora, config, results, inputs)
        for named, pose in held_out:
            if named.clip.group in trained_on:
                run = trained_on[named.clip.group]
                dropped.append(Drop(NAME, named.name, f"the {model} model's training saw this performer in run {run}"))
            else:
                found.append(clip_item(config, inputs, named, pose, model, lora, parents))
    return StageItems(tuple(found), tuple(dropped))


def _chosen(held_out: list[tuple[NamedClip, ActionResult]], most: int | None) -> list[tuple[NamedClip, ActionResult]]:
    """By a hash of their content: the first by name may be all of one kind, and new clips displace few."""
    by_hash = sorted(held_out, key=lambda entry: blake3(f"evaluate/{entry[0].clip.clip_id}".encode()).digest())
    chosen = {entry[0].clip.clip_id for entry in by_hash[:most]}
    return [entry for entry in held_out if entry[0].clip.clip_id in chosen]


def _opponent(results: Results, inputs: Inputs) -> str | None:
    own = lora_digest(results)
    return None if own is None else inputs.rounds().opponent(own, inputs.model_weights())


def _trained_on(lora: str | None, config: RunConfig, results: Results, inputs: Inputs) -> dict[str, str]:
    """Groups that an adapter has seen, with the run; an adapter of this run has seen what its generator has."""
    rounds = inputs.rounds()
    seen = rounds.trained_on(lora)
    if lora == lora_digest(results):
        seen = rounds.trained_on(generator(results)) | seen
    return seen_people((named.clip for named in named_clips(config, results)), seen) if seen else {}


def clip_item(
    config: RunConfig,
    inputs: Inputs,
    named: NamedClip,
    pose: ActionResult,
    model: str,
    lora: str | None,
    parents: tuple[str, ...],
) -> Item:
    clip = named.clip
    settings = settings_of(config, clip.prompt)
    settings["per_clip"] = config.evaluation.per_clip
    settings["clip_id"] = clip.clip_id
    settings["features"] = {
        name: extractor.sha256.lower() for name, extractor in _extractors(config) if extractor is not None
    }
    settings["scores"] = key_config(config.scores, "model", "reward_model") | {"backend": config.poses.backend}
    bytes_of = {
        "model": inputs.model_weights(),
        "clip": clip.video,
        "reference": clip.reference,
        "pose": blob(pose, "pose"),
        "weights": inputs.pose_weights(),
        "judge": inputs.score_weights(),
    }
    needs: tuple[str, ...] = (clip.video, clip.reference, blob(pose, "pose"))
    if lora is not None:
        bytes_of["lora"] = lora
        needs = (*needs, lora)
    action = Action(NAME, VERSION, settings, bytes_of)
    return Item(f"{named.name} {model}", action, (named.action, pose.key, *parents), needs)


def comparison_items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    done = clip_results(results)
    if not any(result.model == "aligned" for result in done):
        return StageItems(())
    champion = _opponent(results, inputs)
    parents = tuple(entry.item.action.key for entry in results[NAME])
    wanted: list[tuple[str, Model, dict[str, str]]] = [("comparison", "base", {})]
    if champion is not None:
        # Even where no clip is left for it: then the comparison says that there is nothing to compare.
        wanted.append(("comparison with the champion", "champion", {"champion": champion}))
    found = []
    for name, first, opponent in wanted:
        table = inputs.put(_RESULTS.dump_json(tuple(row for row in done if row.model in (first, "aligned"))))
        settings = {"bootstrap": config.evaluation.bootstrap}
        action = Action(NAME, VERSION, settings, {"results": table, **opponent})
        found.append(Item(name, action, parents, needs=(table,)))
    return StageItems(tuple(found))


def _extractors(config: RunConfig) -> tuple[tuple[str, ExtractorConfig | None], ...]:
    return ("fvd", config.evaluation.fvd), ("fid_vid", config.evaluation.fid_vid)


WAVES: Final = (clip_items, comparison_items)


def compute(item: Item, bench: Workbench) -> Output:
    return _compare(item, bench) if "results" in item.action.inputs else _generate(item, bench)


def _generate(item: Item, bench: Workbench) -> Output:
    from ipa_core.evaluation.drift import velocity_drift
    from ipa_core.generation import candidate_seed, generate

    inputs, objects, config = item.action.inputs, bench.store.objects, bench.config
    model = bench.model(inputs.get("lora"))
    truth = decode_video(objects.get(inputs["clip"]))
    pose = PoseSequence.from_bytes(objects.get(inputs["pose"]))
    hands = hand_mask(pose)
    count = config.evaluation.per_clip
    seeds = [candidate_seed(inputs["clip"], k, config.candidates.seed) for k in range(count)]
    conditioning = condition(model, item, bench)
    generated = generate(model, conditioning, seeds, config.candidates, bench.progress)
    drift = 0.0
    if "lora" in inputs:
        drift = velocity_drift(model, conditioning, model.encode_video(truth), int(inputs["clip"][:8], 16))
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
                metrics=video_metrics(video, truth, hands),
                score=scored.score.model_copy(update={"hands": ()}),
                hands_found=hands_found(scored.score),
                drift=drift,
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
    first = [result for result in results if result.model != "aligned"]
    aligned = [result for result in results if result.model == "aligned"]
    against = "the champion" if "champion" in item.action.inputs else "base"
    comparison = compare(first, aligned, bootstrap=bench.config.evaluation.bootstrap, against=against)
    return Output(comparison.model_dump(mode="json"))


def evaluated(results: Results) -> list[tuple[Model, ActionResult]]:
    """What was generated and measured, with the role that the model has in this run."""
    own = lora_digest(results)
    found: list[tuple[Model, ActionResult]] = []
    for item, result in results.done(NAME):
        lora = item.action.inputs.get("lora")
        if "clip" in item.action.inputs:
            found.append(("base" if lora is None else "aligned" if lora == own else "champion", result))
    return found


def clip_results(results: Results) -> tuple[ClipResult, ...]:
    """Every generated and measured video of every model; in an order that follows from content, not from names."""
    # The champion's rows say `aligned`: that it was when they were computed.
    rows = [
        ClipResult.model_validate(row | {"model": model})
        for model, result in evaluated(results)
        for row in result.record["results"]
    ]
    return tuple(sorted(rows, key=lambda row: (row.model, row.clip_id, row.seed)))


@dataclass(frozen=True)
class Judged:
    """A comparison of this run's adapter."""

    comparison: Comparison
    against: str | None
    """Digest of the champion; None: the base model."""
    key: str


def comparisons(results: Results) -> list[Judged]:
    """With the base model, and then with the champion where there is one."""
    return [
        Judged(Comparison.model_validate(result.record), item.action.inputs.get("champion"), result.key)
        for item, result in results.done(NAME)
        if "results" in item.action.inputs
    ]


def comparison(results: Results) -> Comparison | None:
    """With the base model."""
    return next((judged.comparison for judged in comparisons(results) if judged.against is None), None)


def nothing_left(config: RunConfig, results: Results) -> str | None:
    if comparison(results) is not None:
        return None
    if results[NAME]:
        return "the aligned model could not be evaluated; the errors are listed above"
    return (
        f"there is nothing to evaluate on: no clip with a pose is held out (clips.held_out is "
        f"{config.clips.held_out}, by group); raise it or add videos of other performers"
    )
