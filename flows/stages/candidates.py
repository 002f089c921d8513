"""Training clips and their poses -> K generated videos each. An item is one clip's seed group, sampled as one batch.

The base model generates, or the champion with `rounds.on_policy`, or in a sweep another arm's LoRA. Who was held out
in any earlier round gets no candidates, whatever the split says today, and so is in no training set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flows.engine.stage import Drop, Inputs, Item, Output, Results, StageItems, blob, key_config
from flows.engine.workbench import Workbench
from flows.stages.clips import NamedClip, named_clips
from flows.stages.people import seen_people
from flows.stages.poses import posed_clips
from ipa_core.config import RunConfig
from ipa_core.drawing import draw_sequence
from ipa_core.records import Candidate, PoseSequence
from ipa_core.video import decode_png, encode_video
from storage import Action, ActionResult

if TYPE_CHECKING:
    from ipa_core.models.animation import AnimationModel, Conditioning

NAME: Final = "candidates"
VERSION: Final = 2
PLACE: Final = "gpu"


def settings_of(config: RunConfig, prompt: str) -> dict[str, Any]:
    """What generation depends on besides bytes; evaluation generates with the same."""
    settings = key_config(config.candidates)
    settings["model"] = {"dtype": config.candidates.model.dtype}
    return {**settings, "prompt": prompt, "fps": config.clips.fps}


def items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    generator = inputs.generator()
    lora = {} if generator is None else {"lora": generator}
    barred = seen_people((named.clip for named in named_clips(config, results)), inputs.rounds().held_out())
    found: list[Item] = []
    dropped: list[Drop] = []
    for named, pose in posed_clips(config, results):
        clip = named.clip
        if clip.split != "train":
            continue
        if clip.group in barred:
            run = barred[clip.group]
            dropped.append(Drop(NAME, named.name, f"this performer was held out in run {run}: never trained on"))
            continue
        bytes_of = {
            "model": inputs.model_weights(),
            "clip": clip.video,
            "reference": clip.reference,
            "pose": blob(pose, "pose"),
            **lora,
        }
        action = Action(NAME, VERSION, settings_of(config, clip.prompt), bytes_of)
        needs = (clip.reference, blob(pose, "pose"), *lora.values())
        found.append(Item(named.name, action, parents=(named.action, pose.key), needs=needs))
    return StageItems(tuple(found), tuple(dropped))


WAVES: Final = (items,)


def compute(item: Item, bench: Workbench) -> Output:
    from ipa_core.generation import candidate_seed, generate
    from ipa_core.models import latents_to_bytes

    config = bench.config.candidates
    model = bench.model(item.action.inputs.get("lora"))
    conditioning = condition(model, item, bench)
    seeds = [candidate_seed(item.action.inputs["clip"], k, config.seed) for k in range(config.per_clip)]
    generated = generate(model, conditioning, seeds, config, bench.progress)
    objects = {"conditioning": conditioning.to_bytes()}
    for k in range(config.per_clip):
        objects[f"{k}.mp4"] = encode_video(generated.videos[k], bench.config.clips.fps)
        objects[f"{k}.latents"] = latents_to_bytes(generated.latents[k])
    return Output({"seeds": seeds}, objects)


def condition(model: AnimationModel, item: Item, bench: Workbench) -> Conditioning:
    """Draw the pose and encode it with the reference image and the prompt of the item."""
    from ipa_core.generation import encode_clip

    config = bench.config.candidates
    objects = bench.store.objects
    pose = PoseSequence.from_bytes(objects.get(item.action.inputs["pose"]))
    reference = decode_png(objects.get(item.action.inputs["reference"]))
    return encode_clip(model, draw_sequence(pose, config.drawing), reference, item.action.config["prompt"], config)


def nothing_left(config: RunConfig, results: Results) -> str | None:
    if results.done(NAME):
        return None
    if results[NAME]:
        return f"none of {len(results[NAME])} clips got candidates; the errors are listed above"
    return (
        "no clip with a pose is in the training split, or all were held out in an earlier round; lower clips.held_out "
        f"(now {config.clips.held_out}) or add videos of other performers"
    )


def generator(results: Results) -> str | None:
    """Digest of the LoRA that generated; None: the base model alone."""
    return next((entry.item.action.inputs.get("lora") for entry in results[NAME]), None)


@dataclass(frozen=True)
class Group:
    """One clip with its candidates."""

    named: NamedClip
    pose: ActionResult
    generated: ActionResult

    def candidates(self) -> list[Candidate]:
        return [
            Candidate(
                clip_id=self.named.clip.clip_id,
                seed=seed,
                video=blob(self.generated, f"{k}.mp4"),
                latents=blob(self.generated, f"{k}.latents"),
                conditioning=blob(self.generated, "conditioning"),
            )
            for k, seed in enumerate(self.generated.record["seeds"])
        ]


def groups(config: RunConfig, results: Results) -> list[Group]:
    """Clips that have candidates."""
    # A clip is told by video, reference, pose and prompt: two windows of a still video may share the first.
    made = {_identity(result): result for _, result in results.done(NAME)}
    found = []
    for named, pose in posed_clips(config, results):
        clip = named.clip
        result = made.get((clip.video, clip.reference, blob(pose, "pose"), clip.prompt))
        if clip.split == "train" and result is not None:
            found.append(Group(named, pose, result))
    return found


def _identity(result: ActionResult) -> tuple[str, ...]:
    inputs = result.action.inputs
    return inputs["clip"], inputs["reference"], inputs["pose"], result.action.config["prompt"]
