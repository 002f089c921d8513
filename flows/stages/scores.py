"""Candidates -> hand scores. An item is one candidate."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from flows.engine.plan import Forecast
from flows.engine.stage import Item, Output, Stage, blob, key_fields
from flows.engine.view import View, joined
from flows.engine.worker import Worker
from flows.stages.candidates import Candidates, GeneratedCandidate, candidates, needs_of
from flows.stages.poses import found_of, pose_of
from ipa_core.config import RunConfig
from ipa_core.records import HandScore, PoseSequence, ScoredCandidate
from ipa_core.video import decode_video
from storage import Action


class Scores(Stage[HandScore]):
    """The record leaves the measures of single frames out, because thousands of records are in memory at once. They are
    the output `hands.json`. The output `pose` is the pose sequence that was found in the candidate."""

    name = "scores"
    version = 2
    place = "cpu"
    section = "scores"
    fields: ClassVar[Mapping[str, str]] = {"backend": "poses.backend"}
    record = HandScore

    def items(self, run: View) -> Iterator[Item]:
        settings = score_settings(run.config)
        for one in candidates(run):
            clip, pose = one.named.clip, pose_of(one.pose)
            inputs = {
                "candidate": one.candidate.video,
                "driving": clip.video,
                "pose": pose,
                "weights": run.inputs.pose_weights,
                "judge": run.inputs.score_weights,
            }
            if one.named.another:
                inputs["found"] = found_of(one.pose)
            yield Item(
                name=f"{one.named.name} candidate {one.number}",
                action=Action(self.name, self.version, settings, inputs),
                parents=(one.action, one.pose.key, one.named.action),
                needs=needs_of(inputs),
            )

    def check(self, run: View) -> None:
        _ = run.inputs.score_weights

    def compute(self, item: Item, worker: Worker) -> Output:
        inputs, objects = item.action.inputs, worker.store.objects
        # The pose that the driving video shows, if the candidate shows another person.
        found = {"found": PoseSequence.from_bytes(objects.get(inputs["found"]))} if "found" in inputs else {}
        scored = worker.scorer.score(
            decode_video(objects.get(inputs["candidate"])),
            decode_video(objects.get(inputs["driving"])),
            PoseSequence.from_bytes(objects.get(inputs["pose"])),
            **found,
        )
        hands = json.dumps([hand.model_dump() for hand in scored.score.hands]).encode()
        record = scored.score.model_copy(update={"hands": ()})
        return Output(record, {"pose": scored.pose.to_bytes(), "hands.json": hands})

    def nothing_left(self, run: View) -> str | None:
        scores = run.records(Scores)
        if any(score.score is not None for score in scores):
            return None
        why = sorted({str(score.unscorable) for score in scores}) or ["every item failed"]
        return f"none of {len(run.results[self.name])} candidates could be scored ({'; '.join(why[:3])})"

    def forecast(self, run: Forecast) -> float:
        config = run.view.config.candidates
        return run.unknown(Candidates) * config.per_clip / config.seed_groups


def score_settings(config: RunConfig) -> dict[str, object]:
    """Return the settings, besides bytes, on which a hand score depends. Evaluation scores with the same."""
    return key_fields(config.scores, "model", "reward_model") | {"backend": config.poses.backend}


@dataclass(frozen=True)
class Scored:
    """A candidate with its score, without the measures of single frames."""

    generated: GeneratedCandidate
    scored: ScoredCandidate
    action: str
    """Key of the action that scored it."""


@joined
def scored_candidates(run: View) -> list[Scored]:
    """Return the scored candidates, in the order of :func:`candidates`."""
    by_inputs = {
        (result.action.inputs["candidate"], result.action.inputs["driving"], result.action.inputs["pose"]): result
        for _, result in run.done(Scores)
    }
    found = []
    for one in candidates(run):
        result = by_inputs.get((one.candidate.video, one.named.clip.video, pose_of(one.pose)))
        if result is not None:
            score = HandScore.model_validate(result.record)
            scored = ScoredCandidate(candidate=one.candidate, score=score, pose=blob(result, "pose"))
            found.append(Scored(one, scored, result.key))
    return found
