"""Candidates -> hand scores. An item is one candidate."""

from __future__ import annotations

import json
from typing import Final

from flows.engine.stage import Inputs, Item, Output, Results, StageItems, blob, key_config
from flows.engine.workbench import Workbench
from flows.stages.candidates import Group, groups
from ipa_core.config import RunConfig
from ipa_core.records import Candidate, HandScore, PoseSequence, ScoredCandidate
from ipa_core.video import decode_video
from storage import Action

NAME: Final = "scores"
VERSION: Final = 2
PLACE: Final = "cpu"


def items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    return StageItems(
        tuple(
            Item(
                name=f"{group.named.name} candidate {number}",
                action=_action(config, group, candidate, inputs),
                parents=(group.generated.key, group.pose.key, group.named.action),
                needs=(candidate.video, group.named.clip.video, blob(group.pose, "pose")),
            )
            for group in groups(config, results)
            for number, candidate in enumerate(group.candidates())
        )
    )


WAVES: Final = (items,)


def _action(config: RunConfig, group: Group, candidate: Candidate, inputs: Inputs) -> Action:
    settings = key_config(config.scores, "model", "reward_model")
    settings["backend"] = config.poses.backend
    return Action(
        NAME,
        VERSION,
        settings,
        {
            "candidate": candidate.video,
            "driving": group.named.clip.video,
            "pose": blob(group.pose, "pose"),
            "weights": inputs.pose_weights(),
            "judge": inputs.score_weights(),
        },
    )


def compute(item: Item, bench: Workbench) -> Output:
    inputs, objects = item.action.inputs, bench.store.objects
    scored = bench.scorer.score(
        decode_video(objects.get(inputs["candidate"])),
        decode_video(objects.get(inputs["driving"])),
        PoseSequence.from_bytes(objects.get(inputs["pose"])),
    )
    # Thousands of records are held in memory at once: the measures of every frame and hand go to an object.
    hands = json.dumps([hand.model_dump() for hand in scored.score.hands]).encode()
    record = scored.score.model_copy(update={"hands": ()}).model_dump(mode="json")
    return Output(record, {"pose": scored.pose.to_bytes(), "hands.json": hands})


def nothing_left(config: RunConfig, results: Results) -> str | None:
    scores = [result.record for _, result in results.done(NAME)]
    if any(record["score"] is not None for record in scores):
        return None
    reasons = sorted({str(record["unscorable"]) for record in scores}) or ["every item failed"]
    return f"none of {len(results[NAME])} candidates could be scored ({'; '.join(reasons[:3])})"


def scored_candidates(config: RunConfig, results: Results) -> list[tuple[Group, int, ScoredCandidate, str]]:
    """Each scored candidate: its group, its number there, the scores without single frames, the score's action."""
    by_candidate = {
        (result.action.inputs["candidate"], result.action.inputs["driving"], result.action.inputs["pose"]): result
        for _, result in results.done(NAME)
    }
    found = []
    for group in groups(config, results):
        for number, candidate in enumerate(group.candidates()):
            result = by_candidate.get((candidate.video, group.named.clip.video, blob(group.pose, "pose")))
            if result is not None:
                score = HandScore.model_validate(result.record)
                scored = ScoredCandidate(candidate=candidate, score=score, pose=blob(result, "pose"))
                found.append((group, number, scored, result.key))
    return found
