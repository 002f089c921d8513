"""Hand scores and what people decided -> preferred samples. One item: all candidates of the run are judged together."""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter

from flows.engine.run_folder import RunFolder
from flows.engine.stage import Inputs, Item, Output, Results, StageItems, blob, key_config
from flows.engine.workbench import Workbench
from flows.stages.scores import scored_candidates
from ipa_core.config import RunConfig
from ipa_core.records import (
    Decision,
    Digest,
    PoseSequence,
    PreferenceSample,
    ScoredCandidate,
    Verdict,
    YieldReport,
)
from ipa_core.scoring import select
from storage import Action, ActionResult, Store

NAME: Final = "selection"
VERSION: Final = 2
PLACE: Final = "here"
_SCORED = TypeAdapter(tuple[ScoredCandidate, ...])
_DECISIONS = TypeAdapter(tuple[Decision, ...])
_VERDICTS = TypeAdapter(dict[Digest, Verdict])
_DRIVING = TypeAdapter(dict[str, Digest])


def items(config: RunConfig, results: Results, inputs: Inputs) -> StageItems:
    found = scored_candidates(config, results)
    # By content: renamed videos come in another order, but are no other selection.
    found.sort(key=lambda entry: (entry[2].candidate.clip_id, entry[2].candidate.seed))
    if not found:
        return StageItems(())
    tables = {"scores": inputs.put(_SCORED.dump_json(tuple(scored for _, _, scored, _ in found)))}
    videos = {scored.candidate.video for _, _, scored, _ in found}
    # Who decided and when is kept with the review: the same decisions by somebody else are the same selection.
    verdicts = {video: verdict for video, verdict in sorted(inputs.verdicts().items()) if video in videos}
    if verdicts:
        tables["verdicts"] = inputs.put(_VERDICTS.dump_json(verdicts))
    needs = list(tables.values())
    if config.selection.min_pose_distance:
        driving = {scored.candidate.clip_id: blob(group.pose, "pose") for group, _, scored, _ in found}
        tables["driving"] = inputs.put(_DRIVING.dump_json(driving))
        needs += [tables["driving"], *driving.values()]
    action = Action(NAME, VERSION, key_config(config.selection), tables)
    parents = tuple(key for _, _, _, key in found)
    return StageItems((Item("all candidates", action, parents=parents, needs=tuple(needs)),))


WAVES: Final = (items,)


def compute(item: Item, bench: Workbench) -> Output:
    inputs, objects = item.action.inputs, bench.store.objects
    scored = scored_table(item.action, bench.store)
    verdicts = _VERDICTS.validate_json(objects.get(inputs["verdicts"])) if "verdicts" in inputs else {}
    driving = _DRIVING.validate_json(objects.get(inputs["driving"])) if "driving" in inputs else {}
    poses = {clip: PoseSequence.from_bytes(objects.get(digest)) for clip, digest in driving.items()}
    selection = select(scored, bench.config.selection, verdicts, poses)
    record = {"report": selection.report.model_dump(), "best_score": selection.best_score}
    return Output(record, {"decisions.json": _DECISIONS.dump_json(selection.decisions)})


def scored_table(action: Action, store: Store) -> tuple[ScoredCandidate, ...]:
    """What a selection decided about, without the measures of single frames."""
    return _SCORED.validate_json(store.objects.get(action.inputs["scores"]))


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
        f"selection.margin {config.selection.margin}; lower them, generate more candidates per clip, or accept some by "
        "hand (`ipa review`)"
    )


def selected(folder: RunFolder, store: Store) -> ActionResult | None:
    """The selection of a run; None where it did not come to it."""
    return next(iter(store.actions.lookup(NAME, folder.names(NAME)).values()), None)


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
            driving=group.named.clip.video if config.alignment.latents == "driving" else None,
            candidate_action=group.generated.key,
            score_action=score_key,
        )
        for group, _, scored, score_key in scored_candidates(config, results)
        if (scored.candidate.clip_id, scored.candidate.seed) in kept
    ]
