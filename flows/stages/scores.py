"""Candidates -> hand scores. An item is one candidate."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from flows.engine.components import check_reward
from flows.engine.plan import Forecast
from flows.engine.stage import Item, Output, Stage, blob
from flows.engine.view import View, joined
from flows.engine.worker import Worker
from flows.stages.candidates import Candidates, GeneratedCandidate, candidates, needs_of
from flows.stages.judge import score_settings, version_of
from flows.stages.poses import found_of, pose_of
from ipa_core.config import NEWEST_SCORE
from ipa_core.records import HandScore, PoseSequence, ScoredCandidate
from ipa_core.scoring.degenerate import check_texture
from ipa_core.video import decode_video
from storage import Action
from storage.digest import digest_config


class Scores(Stage[HandScore]):
    """The record leaves the measures of single frames out, because thousands of records are in memory at once. They are
    the output `hands.json`. The output `pose` is the pose sequence that was found in the candidate."""

    name = "scores"
    version = 2
    place = "cpu"
    section = "scores"
    fields: ClassVar[Mapping[str, str]] = {"backend": "poses.backend"}
    absent: ClassVar[Mapping[str, Any]] = {"version": 1}
    record = HandScore

    def items(self, run: View) -> Iterator[Item]:
        settings = score_settings(run)
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
        check_reward(run.config.scores)

    def notes(self, run: View) -> Iterator[str]:
        if run.config.scores.version is None and run.inputs.score_version < NEWEST_SCORE:
            yield (
                f"this store's hand scores are of version {run.inputs.score_version}; `scores.version: {NEWEST_SCORE}` "
                "scores its candidates anew on the CPU, and keeps the candidates"
            )

    def compute(self, item: Item, worker: Worker) -> Output:
        inputs, objects = item.action.inputs, worker.store.objects
        version = version_of(item.action.config)
        video = decode_video(objects.get(inputs["candidate"]))
        if version > 1:
            check_texture(video)
        # The pose that the driving video shows, if the candidate shows another person.
        found = {"found": PoseSequence.from_bytes(objects.get(inputs["found"]))} if "found" in inputs else {}
        scored = worker.scorer(version).score(
            video,
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
        rejected = {str(one.result.reason) for one in run.results[self.name] if one.result and one.result.reason}
        why = sorted({str(score.unscorable) for score in scores} | rejected) or ["every item failed"]
        return f"none of {len(run.results[self.name])} candidates could be scored ({'; '.join(why[:3])})"

    def forecast(self, run: Forecast) -> float:
        config = run.view.config.candidates
        return run.unknown(Candidates) * config.finished_per_clip / config.seed_groups


def judge_of(action: Action) -> str:
    """Return the name of what computed a score: two scores of one name can be compared."""
    return _judge(action.version, action.config, action.inputs["weights"], action.inputs["judge"])


def judge_now(run: View) -> str:
    """Return the name of what computes the scores of a run."""
    return _judge(Scores.version, score_settings(run), run.inputs.pose_weights, run.inputs.score_weights)


def _judge(version: int, settings: Mapping[str, object], weights: str, judge: str) -> str:
    return digest_config({"version": version, "settings": dict(settings), "weights": weights, "judge": judge})


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
