"""Training clips and their poses -> K generated videos each. An item is a seed group of one clip, sampled as one batch.

The base model generates, or the champion with `rounds.on_policy`, or in a sweep another arm's LoRA. A performer who was
held out in any earlier round gets no candidates, whatever the split says today, and so is in no training set. A clip
whose driving hands can't be scored gets none either: nothing could be chosen from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import SerializerFunctionWrapHandler, model_serializer

from flows.engine.components import check_quantization, check_reward
from flows.engine.helper_processes import check_spread
from flows.engine.loras import added_inputs, added_to, added_weights, check_added, in_words
from flows.engine.plan import Forecast
from flows.engine.stage import Drop, Item, Output, Stage, blob, key_fields
from flows.engine.view import View, joined
from flows.engine.worker import Worker
from flows.stages.clips import NamedClip, named_clips, reasons
from flows.stages.judge import no_hands, preview_judge, score_settings, unscorable
from flows.stages.people import seen_people
from flows.stages.poses import Poses, found_of, pose_of, posed_clips
from ipa_core.config import CandidatesConfig, EarlyConfig, ModelConfig, RunConfig
from ipa_core.generation.early import GIVEN_UP, STOPPED
from ipa_core.models import Network
from ipa_core.models.animation import Driving
from ipa_core.records import Candidate, EarlyPreview, LeftOut, PoseSequence, Record
from ipa_core.scoring.yardstick import UNSCORABLE
from ipa_core.video import decode_picture, decode_video, encode_video, fitted
from storage import Action, ActionResult

if TYPE_CHECKING:
    from ipa_core.models.animation import AnimationModel, Conditioning


class SeedGroup(Record):
    """The record of a seed group. Outputs: `conditioning`, and `0.mp4`, `0.latents`, ... in the order of the seeds,
    without those that early rejection stopped."""

    seeds: tuple[int, ...]
    previews: tuple[EarlyPreview, ...] = ()
    """All that were scored, level by level (`candidates.early`)."""

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = write(self)
        return found if self.previews else {"seeds": found["seeds"]}


class Candidates(Stage[SeedGroup]):
    name = "candidates"
    version = 2
    place = "gpu"
    section = "candidates"
    fields: ClassVar[Mapping[str, str]] = {
        "fps": "clips.fps",
        "prompt": "clips.prompt",
        "early.scores.backend": "poses.backend",
        "early.scores": "scores",
    }
    absent: ClassVar[Mapping[str, Any]] = {"early.scores.version": 1}
    record = SeedGroup

    def items(self, run: View) -> Iterator[Item | Drop]:
        config, inputs = run.config.candidates, run.inputs
        lora = {} if inputs.generator is None else {"lora": inputs.generator}
        judge = {"weights": inputs.pose_weights, "judge": inputs.score_weights} if config.early else {}
        barred = seen_people((named.clip for named in named_clips(run)), inputs.registry.held_out())
        for named, pose in posed_clips(run):
            clip = named.clip
            if clip.split != "train":
                continue
            if clip.group in barred:
                reason = f"this performer was held out in run {barred[clip.group]}: never trained on"
                yield Drop(self.name, named.name, reason)
                continue
            if why := unscorable(run, pose):
                yield Drop(self.name, named.name, why)
                continue
            bytes_of = generation_inputs(run, config, named, pose) | lora | judge
            for first in range(0, config.per_clip, config.group_size):
                settings = generation_settings(run.config, config, clip.prompt, config.group_size)
                if first:
                    settings["first"] = first
                if config.early is not None:
                    settings["early"] = {**key_fields(config.early), "scores": score_settings(run)}
                yield Item(
                    name=f"{named.name} from candidate {first}" if first else named.name,
                    action=Action(self.name, self.version, settings, bytes_of),
                    parents=(named.action, pose.key),
                    needs=needs_of(bytes_of),
                )

    def check(self, run: View) -> None:
        check_spread(run.inputs.model_folder, run.config.execution)
        config = run.config.candidates
        check_quantization(config.model, run.config.execution)
        check_added(config.loras, "candidates.loras", config, run.inputs.components)
        if config.early is not None:
            _ = run.inputs.score_weights
            check_reward(run.config.scores)

    def notes(self, run: View) -> Iterator[str]:
        yield from no_hands(run, "train")
        if run.config.candidates.loras:
            yield (
                f"the candidates come from the model with {in_words(run.config.candidates.loras)} "
                "(candidates.loras), not from the model that is trained: they are off-policy"
            )

    def compute(self, item: Item, worker: Worker) -> Output:
        from ipa_core.generation.candidates import generate
        from ipa_core.models.latents import latents_to_bytes

        config = worker.config.candidates
        model = worker.model(item.action.inputs.get("lora"), added_to(item.action))
        conditioning = condition(model, item, worker, config)
        seeds = seeds_of(item.action, config.seed)
        judge = None if config.early is None else preview_judge(item, worker)
        generated = generate(model, conditioning, seeds, config, worker.progress, judge)
        record = SeedGroup(seeds=seeds, previews=generated.previews)
        if not generated.seeds:
            return Output(record, rejected=generated.previews[-1].stopped)
        objects = {"conditioning": conditioning.to_bytes()}
        for seed, video, latents in zip(generated.seeds, generated.videos, generated.latents, strict=True):
            k = seeds.index(seed)
            objects[f"{k}.mp4"] = encode_video(video, worker.config.clips.fps)
            objects[f"{k}.latents"] = latents_to_bytes(latents)
        return Output(record, objects)

    def window_drops(self, item: Item, result: ActionResult) -> Iterator[Drop]:
        group = self.read(result)
        for preview in group.previews:
            if preview.stopped:
                yield Drop(self.name, f"{item.name} candidate {group.seeds.index(preview.seed)}", preview.stopped)

    def nothing_left(self, run: View) -> str | None:
        if run.done(Candidates):
            return None
        if run.results[self.name]:
            count, why = reasons(run, self.name)
            lower = "; lower candidates.early.least" if why else ""
            return f"none of {count} clips got candidates ({why or 'every item failed, see the errors above'}){lower}"
        nothing = (
            "no clip with a pose is in the training split, or all were held out in an earlier round; lower "
            f"clips.held_out (now {run.config.clips.held_out}) or add videos of other performers"
        )
        return "; ".join([nothing, *no_hands(run, "train")])

    def forecast(self, run: Forecast) -> float:
        config = run.view.config
        return run.unknown(Poses) * (1 - config.clips.held_out) * config.candidates.seed_groups

    def work(self, action: Action) -> float:
        """Return the share of the passes that early rejection leaves when it gives no clip up."""
        if "early" not in action.config:
            return 1.0
        return sampling_of(action).early_share

    def size_of(self, action: Action) -> float:
        return videos_size(action)

    def usual_size(self, config: RunConfig) -> float:
        return config.candidates.group_size * sum(config.candidates.passes)

    def foretells(self, before: ActionResult, action: Action) -> bool:
        """Say no where another number of candidates was sampled or finished."""
        was, now = ({name: one.config.get(name) for name in ("per_clip", "early")} for one in (before.action, action))
        return was == now

    def forecast_work(self, config: RunConfig) -> float:
        return config.candidates.early_share

    def flops(self, network: Network, config: RunConfig) -> float:
        return config.candidates.group_size * network.candidate_flops(config)


def generation_settings(config: RunConfig, sampling: CandidatesConfig, prompt: str, videos: int) -> dict[str, Any]:
    """Return the settings, besides bytes, on which generating so many videos depends. Evaluation uses the same."""
    settings = key_fields(sampling, "group", "early", "loras", "retarget") | added_weights(sampling.loras)
    # The size of a batch is called `per_clip` in keys, because it was called so in the first stores.
    settings |= {"per_clip": videos, "model": key_fields(sampling.model, "path", "revision")}
    return {**settings, "prompt": prompt, "fps": config.clips.fps}


def sampling_of(action: Action) -> CandidatesConfig:
    """Return the sampler's settings of an action that generates videos."""
    names = ("per_clip", "steps", "shift", "scheduler", "guidance_scale", "guidance_until")
    settings = {name: action.config[name] for name in names if name in action.config}
    rules = {name: value for name, value in action.config.get("early", {}).items() if name != "scores"}
    early = EarlyConfig(**rules) if rules else None
    return CandidatesConfig(model=ModelConfig(path="unused"), early=early, **settings)


def videos_size(action: Action) -> float:
    """Return the number of passes of the model that an action's videos take without early rejection."""
    return float(action.config["per_clip"] * sum(sampling_of(action).passes))


def generation_inputs(run: View, sampling: CandidatesConfig, named: NamedClip, pose: ActionResult) -> dict[str, str]:
    return {
        "model": run.inputs.model_weights,
        "clip": named.clip.video,
        "reference": named.clip.reference,
        "pose": pose_of(pose),
        **({"found": found_of(pose)} if named.another else {}),
        **added_inputs(sampling.loras, run.inputs),
    }


def needs_of(bytes_of: Mapping[str, str]) -> tuple[str, ...]:
    """Return the objects that are read: all inputs but those that stand for weights on the machine."""
    return tuple(digest for name, digest in bytes_of.items() if name not in ("model", "weights", "judge"))


def seeds_of(action: Action, seed: int) -> tuple[int, ...]:
    """Return the seeds of the videos that an action generates."""
    from ipa_core.generation.seeds import candidate_seed

    first = action.config.get("first", 0)
    return tuple(
        candidate_seed(action.inputs["clip"], number, seed)
        for number in range(first, first + action.config["per_clip"])
    )


def condition(model: AnimationModel, item: Item, worker: Worker, config: CandidatesConfig) -> Conditioning:
    """Draw the pose and encode it with the reference image and the prompt of the item."""
    from ipa_core.generation.candidates import encode_clip

    objects, inputs = worker.store.objects, item.action.inputs
    pose = PoseSequence.from_bytes(objects.get(inputs["pose"]))
    found = PoseSequence.from_bytes(objects.get(inputs["found"])) if "found" in inputs else None
    reference = fitted(decode_picture(objects.get(inputs["reference"])), pose.width, pose.height)
    driving = Driving(pose, lambda: decode_video(objects.get(inputs["clip"])), found)
    return encode_clip(model, model.draw(driving, config.drawing), reference, item.action.config["prompt"], config)


def left_out(drops: Iterable[Drop]) -> LeftOut:
    """Count what got no candidates or was not finished."""
    reasons = [drop.reason for drop in drops if drop.stage == Candidates.name]
    begins = {"no_hands": UNSCORABLE, "given_up": GIVEN_UP, "stopped": STOPPED}
    return LeftOut(**{name: sum(reason.startswith(begin) for reason in reasons) for name, begin in begins.items()})


def added_loras(run: View) -> dict[str, float]:
    """Return the weights of the LoRAs that were added to the generator, by digest."""
    return next((dict(added_to(entry.item.action)) for entry in run.results.get(Candidates.name, ())), {})


def generator(run: View) -> str | None:
    """Return the digest of the LoRA that generated the candidates. None: the base model alone."""
    return next((entry.item.action.inputs.get("lora") for entry in run.results.get(Candidates.name, ())), None)


@dataclass(frozen=True)
class GeneratedCandidate:
    """A candidate. number: its position among the candidates of its clip, from 0."""

    named: NamedClip
    pose: ActionResult
    number: int
    candidate: Candidate
    action: str
    """Key of the action that generated it."""


@joined
def candidates(run: View) -> list[GeneratedCandidate]:
    """Return all candidates in the order of their clips and numbers, at most `per_clip` of each clip."""
    # Video, reference image, pose and prompt identify a clip: two windows of a still video may share the video.
    made: dict[tuple[str, ...], list[ActionResult]] = {}
    for _, result in run.done(Candidates):
        made.setdefault(_identity(result), []).append(result)
    found: list[GeneratedCandidate] = []
    for named, pose in posed_clips(run):
        clip = named.clip
        if clip.split != "train":
            continue
        for result in made.get((clip.video, clip.reference, pose_of(pose), clip.prompt), ()):
            found += _of_group(named, pose, result, run.config.candidates.per_clip)
    return found


def _of_group(named: NamedClip, pose: ActionResult, result: ActionResult, most: int) -> Iterator[GeneratedCandidate]:
    first = result.action.config.get("first", 0)
    for k, seed in enumerate(SeedGroup.model_validate(result.record).seeds[: max(0, most - first)]):
        if f"{k}.mp4" not in result.outputs:  # Early rejection stopped it.
            continue
        candidate = Candidate(
            clip_id=named.clip.clip_id,
            seed=seed,
            video=blob(result, f"{k}.mp4"),
            latents=blob(result, f"{k}.latents"),
            conditioning=blob(result, "conditioning"),
        )
        yield GeneratedCandidate(named, pose, first + k, candidate, result.key)


def _identity(result: ActionResult) -> tuple[str, ...]:
    inputs = result.action.inputs
    return inputs["clip"], inputs["reference"], inputs["pose"], result.action.config["prompt"]
