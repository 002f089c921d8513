"""Hand scores and reviews -> preferred samples. There is one item: it judges all candidates of the run together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import TypeAdapter

from flows.engine.plan import Forecast
from flows.engine.run_folder import RunFolder
from flows.engine.stage import Item, Output, Stage, blob, key_fields
from flows.engine.view import View, joined
from flows.engine.worker import Worker
from flows.stages.poses import pose_of
from flows.stages.scores import scored_candidates
from ipa_core.config import AlignmentConfig
from ipa_core.records import (
    Decision,
    Digest,
    PoseSequence,
    PreferenceSample,
    Record,
    ScoredCandidate,
    Verdict,
    YieldReport,
)
from ipa_core.scoring import select
from ipa_core.scoring.rewards import rewards
from storage import Action, ActionResult, Store

ITEM: Final = "all candidates"
"""Name of the one item."""
_SCORED = TypeAdapter(tuple[ScoredCandidate, ...])
_DECISIONS = TypeAdapter(tuple[Decision, ...])
_VERDICTS = TypeAdapter(dict[Digest, Verdict])
_DRIVING = TypeAdapter(dict[str, Digest])


class Selected(Record):
    """The record of a selection. Its output `decisions.json` has a decision for each candidate."""

    report: YieldReport
    best_score: float | None


class Selection(Stage[Selected]):
    name = "selection"
    version = 2
    place = "here"
    section = "selection"
    record = Selected

    def items(self, run: View) -> Iterator[Item]:
        found = list(scored_candidates(run))
        # Sorted by content, because renamed videos come in another order but are the same selection.
        found.sort(key=lambda one: (one.scored.candidate.clip_id, one.scored.candidate.seed))
        if not found:
            return
        inputs = run.inputs
        tables = {"scores": inputs.put(_SCORED.dump_json(tuple(one.scored for one in found)))}
        videos = {one.scored.candidate.video for one in found}
        # Reviewer and time stay out of the key: the same verdicts by somebody else are the same selection.
        verdicts = {video: verdict for video, verdict in sorted(inputs.verdicts.items()) if video in videos}
        if verdicts:
            tables["verdicts"] = inputs.put(_VERDICTS.dump_json(verdicts))
        needs = list(tables.values())
        if run.config.selection.min_pose_distance:
            driving = {one.scored.candidate.clip_id: pose_of(one.generated.pose) for one in found}
            tables["driving"] = inputs.put(_DRIVING.dump_json(driving))
            needs += [tables["driving"], *driving.values()]
        action = Action(self.name, self.version, key_fields(run.config.selection), tables)
        parents = tuple(one.action for one in found)
        yield Item(ITEM, action, parents=parents, needs=tuple(needs))

    def compute(self, item: Item, worker: Worker) -> Output:
        inputs, objects = item.action.inputs, worker.store.objects
        scored = scored_table(item.action, worker.store)
        verdicts = _VERDICTS.validate_json(objects.get(inputs["verdicts"])) if "verdicts" in inputs else {}
        driving = _DRIVING.validate_json(objects.get(inputs["driving"])) if "driving" in inputs else {}
        poses = {clip: PoseSequence.from_bytes(objects.get(digest)) for clip, digest in driving.items()}
        selection = select(scored, worker.config.selection, verdicts, poses)
        record = Selected(report=selection.report, best_score=selection.best_score)
        return Output(record, {"decisions.json": _DECISIONS.dump_json(selection.decisions)})

    def nothing_left(self, run: View) -> str | None:
        one = run.one(Selection)
        if one is None:
            return "the selection failed; the error is listed above"
        record, config = self.read(one[1]), run.config.selection
        if record.report.kept:
            return None
        best = "unknown" if record.best_score is None else f"{record.best_score:.3f}"
        return (
            f"none of {record.report.candidates} candidates was kept: the best score is {best}, selection.threshold is "
            f"{config.threshold} and selection.margin {config.margin}; lower them, generate more candidates per clip, "
            "or accept some by hand (`ipa review`)"
        )

    def forecast(self, run: Forecast) -> float:
        return 0 if run.view.results[self.name] else 1


def scored_table(action: Action, store: Store) -> tuple[ScoredCandidate, ...]:
    """Return the candidates that a selection decided about, without the measures of single frames."""
    return _SCORED.validate_json(store.objects.get(action.inputs["scores"]))


def selected(folder: RunFolder, store: Store) -> ActionResult | None:
    """Return the selection of a run; None if the run did not come to it."""
    return next(iter(store.actions.lookup(Selection.name, folder.names(Selection.name)).values()), None)


def yield_of(result: ActionResult) -> YieldReport:
    return Selected.model_validate(result.record).report


def decisions(result: ActionResult, store: Store) -> tuple[Decision, ...]:
    return _DECISIONS.validate_json(store.objects.get(blob(result, "decisions.json")))


@joined
def kept_samples(run: View) -> tuple[PreferenceSample, ...]:
    """Return the samples of the shards in their order: the kept candidates, and for methods that learn from losers
    other candidates of the same clips."""
    selection = run.one(Selection)
    if selection is None:
        return ()
    kept = {(decision.clip_id, decision.seed) for decision in decisions(selection[1], run.store) if decision.kept}
    alignment = run.config.alignment
    samples = _with_losers(run, kept) if alignment.learns_from_losers else preferred_samples(run, kept)
    return tuple(sorted(samples, key=lambda sample: sample.key))


def _with_losers(run: View, kept: set[tuple[str, int]]) -> list[PreferenceSample]:
    """Return the candidates of the clips from which some were kept, with their rewards; for pairs the pairs alone."""
    clips: dict[str, list[ScoredCandidate]] = {clip: [] for clip, _ in kept}
    for one in scored_candidates(run):
        if one.scored.candidate.clip_id in clips:
            clips[one.scored.candidate.clip_id].append(one.scored)
    told: dict[tuple[str, int], float] = {}
    for clip, found in clips.items():
        given = rewards(found, run.config.selection, run.inputs.verdicts)
        seeds = {seed for of_clip, seed in kept if of_clip == clip}
        if run.config.alignment.method == "dpo":
            given = _paired(found, given, seeds, run.config.alignment)
        told.update({(clip, seed): reward for seed, reward in given.items()})
    return [
        sample.model_copy(update={"kept": place in kept, "reward": told[place]})
        for sample in preferred_samples(run, set(told))
        for place in [(sample.clip_id, sample.seed)]
    ]


def _paired(
    found: list[ScoredCandidate], given: dict[int, float], kept: set[int], config: AlignmentConfig
) -> dict[int, float]:
    """Return the rewards of the members of a clip's pairs: each kept candidate with the last of the others."""
    scores = {one.candidate.seed: one.score for one in found}
    others = [seed for seed in given if seed not in kept]
    if not others:
        return {}
    last = min(others, key=lambda seed: (given[seed], seed))

    def pairs_with(seed: int) -> bool:
        first, second = scores[seed], scores[last]
        if config.pairs == "strict":
            return (first.good_frames, second.good_frames) == (1.0, 0.0)
        return not config.pair_margin or abs((first.score or 0.0) - (second.score or 0.0)) >= config.pair_margin

    firsts = [seed for seed in given if seed in kept and pairs_with(seed)]
    return {seed: given[seed] for seed in (*firsts, last)} if firsts else {}


def preferred_samples(run: View, kept: set[tuple[str, int]]) -> list[PreferenceSample]:
    """Return the samples of the candidates in ``kept`` (clip id, seed), in the order of their clips."""
    trains_on_driving = run.config.alignment.latents == "driving"
    return [
        PreferenceSample(
            key=f"{one.scored.candidate.clip_id}-{one.scored.candidate.seed:016x}",
            clip_id=one.scored.candidate.clip_id,
            seed=one.scored.candidate.seed,
            score=one.scored.score.score,
            prompt=one.generated.named.clip.prompt,
            video=one.scored.candidate.video,
            latents=one.scored.candidate.latents,
            conditioning=one.scored.candidate.conditioning,
            pose=pose_of(one.generated.pose),
            driving=one.generated.named.clip.video if trains_on_driving else None,
            candidate_action=one.generated.action,
            score_action=one.action,
        )
        for one in scored_candidates(run)
        if (one.scored.candidate.clip_id, one.scored.candidate.seed) in kept
    ]
