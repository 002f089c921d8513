"""Hand scores -> preferred samples. One item: all candidates of the run are judged together."""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter

from flows.stage import Inputs, Item, Output, Results, StageItems, blob, key_config
from flows.stages.scores import scored_candidates
from flows.workbench import Workbench
from ipa_core.config import RunConfig
from ipa_core.records import Decision, PreferenceSample, ScoredCandidate, YieldReport
from ipa_core.scoring import select
from storage import Action, ActionResult, Store

NAME: Final = "selection"
VERSION: Final = 1
PLACE: Final = "here"
_SCORED = TypeAdapter(tuple[ScoredCandidate, ...])
_DECISIONS = TypeAdapter(tuple[Decision, ...])


def items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    scored = [(candidate, key) for _, _, candidate, key in scored_candidates(config, results)]
    # By content: renamed videos come in another order, but are no other selection.
    scored.sort(key=lambda entry: (entry[0].candidate.clip_id, entry[0].candidate.seed))
    if not scored:
        return StageItems(())
    table = inputs.put(_SCORED.dump_json(tuple(candidate for candidate, _ in scored)))
    action = Action(NAME, VERSION, key_config(config.selection), {"scores": table})
    return StageItems((Item("all candidates", action, parents=tuple(key for _, key in scored), needs=(table,)),))


WAVES: Final = (items,)


def compute(item: Item, bench: Workbench) -> Output:
    scored = _SCORED.validate_json(bench.store.objects.get(item.action.inputs["scores"]))
    selection = select(scored, bench.config.selection)
    record = {"report": selection.report.model_dump(), "best_score": selection.best_score}
    return Output(record, {"decisions.json": _DECISIONS.dump_json(selection.decisions)})


def nothing_left(config: RunConfig, results: Results) -> str | None:
    one = results.one(NAME)
    if one is None:
        return "the selection failed; the error is listed above"
    record = one[1].record
    report = YieldReport.model_validate(record["report"])
    if report.kept:
        return None
    best = record["best_score"]
    return (
        f"none of {report.candidates} candidates was kept: the best score is "
        f"{'unknown' if best is None else f'{best:.3f}'}, selection.threshold is {config.selection.threshold} and "
        f"selection.margin {config.selection.margin}; lower them, or generate more candidates per clip"
    )


def decisions(result: ActionResult, store: Store) -> tuple[Decision, ...]:
    return _DECISIONS.validate_json(store.objects.get(blob(result, "decisions.json")))


def preferred_samples(config: RunConfig, results: Results, kept: set[tuple[str, int]]) -> list[PreferenceSample]:
    """The kept candidates, told by (clip id, seed), in the order of their clips."""
    return [
        PreferenceSample(
            key=f"{scored.candidate.clip_id}-{scored.candidate.seed:016x}",
            clip_id=scored.candidate.clip_id,
            seed=scored.candidate.seed,
            score=scored.score.score,
            prompt=group.named.clip.prompt,
            video=scored.candidate.video,
            latents=scored.candidate.latents,
            conditioning=scored.candidate.conditioning,
            pose=blob(group.pose, "pose"),
            candidate_action=group.generated.key,
            score_action=score_key,
        )
        for group, _, scored, score_key in scored_candidates(config, results)
        if scored.score.score is not None and (scored.candidate.clip_id, scored.candidate.seed) in kept
    ]
