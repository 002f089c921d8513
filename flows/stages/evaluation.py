"""Evaluates the aligned model against base and champion on held-out clips, with the same seeds. The first wave has an
item per (clip, model), the second the comparisons. The base half does not depend on the LoRA, so all alignments share
it. The champion's half comes from its own round, in which it was the aligned model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from blake3 import blake3
from pydantic import TypeAdapter

from flows.engine.loras import added_to, check_added, in_words
from flows.engine.plan import Forecast
from flows.engine.stage import Drop, Item, Output, Stage, Wave
from flows.engine.view import View, joined
from flows.engine.worker import Worker
from flows.stages import second_judge
from flows.stages.candidates import (
    condition,
    generation_inputs,
    generation_settings,
    generator,
    needs_of,
    seeds_of,
    videos_size,
)
from flows.stages.clips import NamedClip, named_clips
from flows.stages.finetune import Finetune, lora_digest
from flows.stages.judge import no_hands, score_settings, shows_nothing, unscorable, version_of
from flows.stages.looks import objects_of, with_looks
from flows.stages.people import seen_people
from flows.stages.poses import Poses, posed_clips
from flows.stages.second_judge import Judged, is_judging, judging_item
from ipa_core.config import ExtractorConfig, RunConfig
from ipa_core.evaluation import ClipResult, Comparison, compare, look, video_metrics
from ipa_core.evaluation.comparison import Model, hands_found
from ipa_core.masks import hand_mask
from ipa_core.models import Network
from ipa_core.records import HandScore, PoseSequence, Record
from ipa_core.video import decode_video, encode_video
from storage import Action, ActionResult

COMPARISON: Final = "comparison"
"""Name of the item that compares with the base model."""
_RESULTS = TypeAdapter(tuple[ClipResult, ...])


class Evaluated(Record):
    """The record of a held-out clip under one model. Its videos and their poses are the outputs `0.mp4`, `0.pose`, ...
    The record of a comparison is a `Comparison`, that of the second judge a `Judged`."""

    results: tuple[ClipResult, ...]


class Evaluation(Stage[Evaluated]):
    name = "evaluation"
    version = 4
    place = "gpu"
    section = "candidates"
    fields: ClassVar[Mapping[str, str]] = {
        "per_clip": "evaluation.per_clip",
        "bootstrap": "evaluation.bootstrap",
        "features": "evaluation",
        "scores.backend": "poses.backend",
        "scores": "scores",
        "fps": "clips.fps",
        "prompt": "clips.prompt",
        "clip_id": "the clip",
    }
    absent: ClassVar[Mapping[str, Any]] = {"scores.version": 1}
    record = Evaluated

    def items(self, run: View) -> Iterator[Item | Drop]:
        for named, pose in posed_clips(run):
            if named.clip.split == "held_out" and (why := unscorable(run, pose)):
                yield Drop(self.name, named.name, why)
        own, champion = lora_digest(run), _opponent(run)
        chosen = _chosen(_held_out(run), run.config.evaluation.max_clips)
        trained = tuple(entry.item.action.key for entry in run.results.get(Finetune.name, ()))
        # All items of one model come in a row, so each model is loaded once.
        for model, lora, parents in (("base", None, ()), ("aligned", own, trained), ("champion", champion, ())):
            if model != "base" and lora is None:
                continue
            trained_on = _trained_on(lora, run)
            for named, pose in chosen:
                if named.clip.group in trained_on:
                    reason = f"the {model} model's training saw this performer in run {trained_on[named.clip.group]}"
                    yield Drop(self.name, named.name, reason)
                else:
                    yield clip_item(run, named, pose, model, lora, parents)

    def judging_items(self, run: View) -> Iterator[Item]:
        judge = run.inputs.second_judge
        if judge is None:
            return
        for item, result in run.done(Evaluation):
            videos = len(Evaluated.model_validate(result.record).results)
            yield judging_item(item, result, videos, judge, self.version)

    def comparison_items(self, run: View) -> Iterator[Item]:
        done = clip_results(run)
        if not any(result.model == "aligned" for result in done):
            return
        champion = _opponent(run)
        parents = tuple(entry.item.action.key for entry in run.results[self.name])
        old = [one.result for one in evaluated(run) if any(row.lacks_look for row in one.results)]
        to_look_at = tuple({digest: None for result in old for digest in objects_of(result)})
        wanted: list[tuple[str, Model, dict[str, str]]] = [(COMPARISON, "base", {})]
        if champion is not None:
            # Even if no clip is left for it: then the comparison says that there is nothing to compare.
            wanted.append(("comparison with the champion", "champion", {"champion": champion}))
        for name, first, opponent in wanted:
            table = run.inputs.put(_RESULTS.dump_json(tuple(row for row in done if row.model in (first, "aligned"))))
            settings = {"bootstrap": run.config.evaluation.bootstrap}
            action = Action(self.name, self.version, settings, {"results": table, **opponent})
            yield Item(name, action, parents, needs=(table, *to_look_at))

    def waves(self) -> Sequence[Wave]:
        return self.items, self.judging_items, self.comparison_items

    def compute(self, item: Item, worker: Worker) -> Output:
        if is_judging(item.action):
            return second_judge.compute(item, worker)
        return _compare(item, worker) if _is_comparison(item.action) else _generate(item, worker)

    def check(self, run: View) -> None:
        from ipa_core.evaluation.features import extractor_bytes
        from ipa_core.evaluation.second_judge import read_judge

        for _, extractor in _extractors(run.config):
            if extractor is not None:
                extractor_bytes(extractor)
        if run.config.evaluation.judge is not None:
            read_judge(run.config.evaluation.judge)
        files = run.config.evaluation.sampler.loras or ()
        check_added(files, "evaluation.sampler.loras", run.config.evaluated, run.inputs.components)

    def notes(self, run: View) -> Iterator[str]:
        yield from no_hands(run, "held_out")
        if sampled := sampled_otherwise(run.config):
            drift = "; the drift from the base is then not measured" if run.config.evaluated.loras else ""
            yield f"the evaluation samples both models {sampled}{drift}"

    def fields_of(self, config: RunConfig) -> Mapping[str, str]:
        changed = config.evaluation.sampler.model_fields_set
        return {**self.fields, **{name: f"evaluation.sampler.{name}" for name in changed}}

    def nothing_left(self, run: View) -> str | None:
        if comparison(run) is not None:
            return None
        if run.results[self.name]:
            return "the aligned model could not be evaluated; the errors are listed above"
        nothing = (
            f"there is nothing to evaluate on: no clip with a pose is held out (clips.held_out is "
            f"{run.config.clips.held_out}, by group); raise it or add videos of other performers"
        )
        return "; ".join([nothing, *no_hands(run, "held_out")])

    def forecast(self, run: Forecast) -> float:
        """Count the clips under two models that can't be listed yet. The aligned one has none before it is trained."""
        config = run.view.config
        listed = len(_chosen(_held_out(run.view), config.evaluation.max_clips))
        clips = listed + run.unknown(Poses) * config.clips.held_out
        clips = min(clips, config.evaluation.max_clips or clips)
        return 2 * clips - (listed if lora_digest(run.view) is None else 2 * listed)

    def work(self, action: Action) -> float:
        """Return 0 for a comparison and the second judge, which take no time beside the making of videos."""
        return 1.0 if _is_clip(action) else 0.0

    def size_of(self, action: Action) -> float:
        return videos_size(action) if _is_clip(action) else 1.0

    def usual_size(self, config: RunConfig) -> float:
        return config.evaluation.per_clip * sum(config.evaluated.passes)

    def flops(self, network: Network, config: RunConfig) -> float:
        as_evaluated = config.model_copy(update={"candidates": config.evaluated})
        return config.evaluation.per_clip * network.candidate_flops(as_evaluated)


def _is_comparison(action: Action) -> bool:
    return "results" in action.inputs


def _is_clip(action: Action) -> bool:
    return not _is_comparison(action) and not is_judging(action)


def _held_out(run: View) -> list[tuple[NamedClip, ActionResult]]:
    """Return the held-out clips on which a model can be judged: at least one hand can be scored."""
    return [
        (named, pose)
        for named, pose in posed_clips(run)
        if named.clip.split == "held_out" and unscorable(run, pose) is None
    ]


def _chosen(held_out: list[tuple[NamedClip, ActionResult]], most: int | None) -> list[tuple[NamedClip, ActionResult]]:
    """Choose by a hash of the content: the first clips by name may be all of one kind, and new clips displace few."""
    by_hash = sorted(held_out, key=lambda entry: blake3(f"evaluate/{entry[0].clip.clip_id}".encode()).digest())
    chosen = {entry[0].clip.clip_id for entry in by_hash[:most]}
    return [entry for entry in held_out if entry[0].clip.clip_id in chosen]


def _opponent(run: View) -> str | None:
    own = lora_digest(run)
    return None if own is None else run.inputs.registry.opponent(own, run.inputs.model_weights)


def _trained_on(lora: str | None, run: View) -> dict[str, str]:
    """Return the groups that an adapter has seen, with the run. This run's adapter has seen its generator's too."""
    registry = run.inputs.registry
    seen = registry.trained_on(lora)
    if lora == lora_digest(run):
        seen = registry.trained_on(generator(run)) | seen
    return seen_people((named.clip for named in named_clips(run)), seen) if seen else {}


def clip_item(
    run: View, named: NamedClip, pose: ActionResult, model: str, lora: str | None, parents: tuple[str, ...]
) -> Item:
    """Make the item of one held-out clip under one model."""
    config, clip = run.config, named.clip
    settings = generation_settings(config, config.evaluated, clip.prompt, config.evaluation.per_clip)
    settings["clip_id"] = clip.clip_id
    settings["features"] = {
        name: extractor.sha256.lower() for name, extractor in _extractors(config) if extractor is not None
    }
    settings["scores"] = score_settings(run)
    inputs = generation_inputs(run, config.evaluated, named, pose)
    inputs |= {"weights": run.inputs.pose_weights, "judge": run.inputs.score_weights}
    if lora is not None:
        inputs["lora"] = lora
    action = Action(Evaluation.name, Evaluation.version, settings, inputs)
    return Item(f"{named.name} {model}", action, (named.action, pose.key, *parents), needs_of(inputs))


def sampled_otherwise(config: RunConfig) -> str | None:
    """Say how the evaluation samples, where `evaluation.sampler` changes it or LoRAs are added; else None."""
    sampling = config.evaluated
    if sampling == config.candidates and not sampling.loras:
        return None
    added = f", with {in_words(sampling.loras)}" if sampling.loras else ""
    until = f" until t = {sampling.guidance_until:g}" if sampling.guidance_until else ""
    return (
        f"in {sampling.steps} steps of {sampling.scheduler} (shift {sampling.shift:g}, guidance "
        f"{sampling.guidance_scale:g}{until}){added}"
    )


def _extractors(config: RunConfig) -> tuple[tuple[str, ExtractorConfig | None], ...]:
    return ("fvd", config.evaluation.fvd), ("fid_vid", config.evaluation.fid_vid)


def _generate(item: Item, worker: Worker) -> Output:
    from ipa_core.evaluation.drift import velocity_drift
    from ipa_core.generation.candidates import generate
    from ipa_core.generation.sampler import steps_of

    inputs, objects, config = item.action.inputs, worker.store.objects, worker.config
    added, sampling = added_to(item.action), config.evaluated
    model = worker.model(inputs.get("lora"), added)
    truth = decode_video(objects.get(inputs["clip"]))
    pose = PoseSequence.from_bytes(objects.get(inputs["pose"]))
    hands = hand_mask(pose)
    version = version_of(item.action.config["scores"])
    scorer = worker.scorer(version)
    seeds = seeds_of(item.action, config.candidates.seed)
    conditioning = condition(model, item, worker, sampling)
    sampled = steps_of(len(seeds), sampling)
    whole = sampled + len(seeds)  # Measuring a video counts as one step more.
    generated = generate(model, conditioning, seeds, sampling, lambda step, _: worker.progress(step, whole))
    # Another person was animated than the driving video shows, so there is no true video.
    found_pose = PoseSequence.from_bytes(objects.get(inputs["found"])) if "found" in inputs else None
    another = {} if found_pose is None else {"found": found_pose}
    drift: float | None = None if added or another else 0.0
    if "lora" in inputs and drift is not None:
        drift = velocity_drift(model, conditioning, model.encode_video(truth), int(inputs["clip"][:8], 16))
    found: list[ClipResult] = []
    outputs: dict[str, bytes] = {}
    for k, seed in enumerate(seeds):
        outputs[f"{k}.mp4"] = encode_video(generated.videos[k], config.clips.fps)
        # The encoded video is stored, so the encoded video is compared.
        video = decode_video(outputs[f"{k}.mp4"])
        scored = scorer.score(video, truth, pose, **another)
        outputs[f"{k}.pose"] = scored.pose.to_bytes()
        nothing = shows_nothing(video, version)
        score = HandScore.none(nothing) if nothing else scored.score
        found.append(
            ClipResult(
                clip_id=item.action.config["clip_id"],
                seed=seed,
                model="aligned" if "lora" in inputs else "base",
                metrics=None if another else video_metrics(video, truth, hands),
                look=None if another else look(video, truth, hands),
                score=score.model_copy(update={"hands": ()}),
                hands_found=hands_found(score),
                drift=drift,
                second_judge=None,  # It has a wave of its own.
                **{
                    name: worker.features(extractor).pair(video, truth)
                    for name, extractor in _extractors(config)
                    if extractor is not None and not another
                },
            )
        )
        worker.progress(sampled + k + 1, whole)
    return Output(Evaluated(results=tuple(found)), outputs)


def _compare(item: Item, worker: Worker) -> Output:
    results = _looked_at(_RESULTS.validate_json(worker.store.objects.get(item.action.inputs["results"])), item, worker)
    first = [result for result in results if result.model != "aligned"]
    aligned = [result for result in results if result.model == "aligned"]
    against = "the champion" if "champion" in item.action.inputs else "base"
    return Output(compare(first, aligned, bootstrap=worker.config.evaluation.bootstrap, against=against))


def _looked_at(results: Sequence[ClipResult], item: Item, worker: Worker) -> list[ClipResult]:
    """Give a look to the rows that an earlier version evaluated. A row is found again by its measures."""
    looks = {}
    for made in worker.store.actions.lookup(Evaluation.name, item.parents).values():
        if made.outcome == "done" and _is_clip(made.action):
            rows = Evaluated.model_validate(made.record).results
            if any(row.lacks_look for row in rows):
                seen = with_looks(rows, made, worker.store)
                looks.update({_measures(row): one.look for row, one in zip(rows, seen, strict=True)})
    return [row.model_copy(update={"look": row.look or looks.get(_measures(row))}) for row in results]


def _measures(row: ClipResult) -> str:
    return row.model_copy(update={"model": "aligned", "second_judge": None}).model_dump_json()


@dataclass(frozen=True)
class EvaluatedClip:
    """A held-out clip under one model. model: the role of the model in this run."""

    model: Model
    results: tuple[ClipResult, ...]
    result: ActionResult


@joined
def evaluated(run: View) -> list[EvaluatedClip]:
    own = lora_digest(run)
    done = run.done(Evaluation)
    judged = {
        item.parents[0]: Judged.model_validate(made.record).judged for item, made in done if is_judging(item.action)
    }
    found = []
    for item, result in done:
        lora = item.action.inputs.get("lora")
        if _is_clip(item.action):
            model: Model = "base" if lora is None else "aligned" if lora == own else "champion"
            rows = Evaluated.model_validate(result.record).results
            # The champion's rows say `aligned`, because the champion was that when they were computed.
            changes = ({"model": model, "second_judge": one} for one in judged.get(result.key, [None] * len(rows)))
            told = tuple(row.model_copy(update=change) for row, change in zip(rows, changes, strict=True))
            found.append(EvaluatedClip(model, told, result))
    return found


@joined
def clip_results(run: View) -> tuple[ClipResult, ...]:
    """Return all generated and measured videos of all models, in an order that follows from content, not from names."""
    rows = [row for clip in evaluated(run) for row in clip.results]
    return tuple(sorted(rows, key=lambda row: (row.model, row.clip_id, row.seed)))


@dataclass(frozen=True)
class Compared:
    """A comparison of this run's adapter."""

    comparison: Comparison
    against: str | None
    """Digest of the champion. None: the base model."""
    key: str


@joined
def comparisons(run: View) -> list[Compared]:
    """Return the comparison with the base model, and then that with the champion if there is one."""
    return [
        Compared(Comparison.model_validate(result.record), item.action.inputs.get("champion"), result.key)
        for item, result in run.done(Evaluation)
        if _is_comparison(item.action)
    ]


def comparison(run: View) -> Comparison | None:
    """Return the comparison with the base model."""
    return next((compared.comparison for compared in comparisons(run) if compared.against is None), None)
