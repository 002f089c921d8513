"""Hand scores and reviews -> preferred samples. There is one item: it judges all candidates of the run together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from pydantic import TypeAdapter

from flows.engine.plan import Forecast
from flows.engine.run_folder import RunFolder
from flows.engine.stage import Item, Output, Stage, blob, key_fields
from flows.engine.view import View, joined
from flows.engine.worker import Worker
from flows.stages.poses import pose_of
from flows.stages.scores import judge_now, scored_candidates
from ipa_core.config import AlignmentConfig, ConfigError
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
from ipa_core.scoring.calibration import Calibration
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
        if run.inputs.calibration is not None:
            tables["calibration"] = inputs.put(run.inputs.calibration.to_bytes())
            needs.append(tables["calibration"])
        action = Action(self.name, self.version, key_fields(run.config.selection, "calibration"), tables)
        parents = tuple(one.action for one in found)
        yield Item(ITEM, action, parents=parents, needs=tuple(needs))

    def compute(self, item: Item, worker: Worker) -> Output:
        material = Material.of(item.action, worker.store)
        config = worker.config.selection
        if material.calibration is not None:
            config = material.calibration.apply(config)
        selection = select(material.scored, config, material.verdicts, material.driving)
        record = Selected(report=selection.report, best_score=selection.best_score)
        return Output(record, {"decisions.json": _DECISIONS.dump_json(selection.decisions)})

    def check(self, run: View) -> None:
        calibration = run.inputs.calibration
        if calibration is None:
            return
        if calibration.judge != judge_now(run):
            raise ConfigError(
                f"selection.calibration: {run.config.selection.calibration} was fitted on the scores of "
                f"run {calibration.run}, and this config scores otherwise; review and calibrate a run of this "
                "config, or leave it out"
            )
        calibration.apply(run.config.selection)

    def nothing_left(self, run: View) -> str | None:
        one = run.one(Selection)
        if one is None:
            return "the selection failed; the error is listed above"
        record, config = self.read(one[1]), run.config.selection
        if record.report.kept:
            return None
        of_scores = threshold_of(one[1].action, run.store)
        least = (
            f"{config.threshold}" if config.calibration is None else f"{config.threshold}, by calibration {of_scores}"
        )
        best = "unknown" if record.best_score is None else f"{record.best_score:.3f}"
        return (
            f"none of {record.report.candidates} candidates was kept: the best score is {best}, selection.threshold is "
            f"{least} and selection.margin {config.margin}; lower them, generate more candidates per clip, "
            "or accept some by hand (`ipa review`)"
        )

    def forecast(self, run: Forecast) -> float:
        return 0 if run.view.results[self.name] else 1


@dataclass(frozen=True)
class Material:
    """All that a selection decides from, besides its settings."""

    scored: tuple[ScoredCandidate, ...]
    """Without the measures of single frames."""
    verdicts: Mapping[Digest, Verdict]
    driving: Mapping[str, PoseSequence]
    """By clip; empty unless the settings compare driving motions."""
    calibration: Calibration | None

    @classmethod
    def of(cls, action: Action, store: Store) -> Self:
        """Read what a selection read."""
        inputs, objects = action.inputs, store.objects
        driving = _DRIVING.validate_json(objects.get(inputs["driving"])) if "driving" in inputs else {}
        return cls(
            scored=scored_table(action, store),
            verdicts=_VERDICTS.validate_json(objects.get(inputs["verdicts"])) if "verdicts" in inputs else {},
            driving={clip: PoseSequence.from_bytes(objects.get(digest)) for clip, digest in driving.items()},
            calibration=_calibration(action, store),
        )


def _calibration(action: Action, store: Store) -> Calibration | None:
    digest = action.inputs.get("calibration")
    return None if digest is None else Calibration.model_validate_json(store.objects.get(digest))


def threshold_of(action: Action, store: Store) -> float:
    """Return the least score that a selection kept."""
    threshold, calibration = float(action.config["threshold"]), _calibration(action, store)
    found = threshold if calibration is None else calibration.threshold_at(threshold)
    assert found is not None, "the selection would have failed"
    return found


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
