"""The candidates of a run in the order of the review: those near the threshold come first."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, cast

from flows.engine.run_folder import RunFolder, runs
from flows.engine.stage import blob
from flows.stages import selection
from ipa_core.config import ConfigError
from ipa_core.generation.early import STOPPED
from ipa_core.records import Candidate, Decision, HandScore, ReviewRule
from storage import ActionResult, Store, StoreError

log = logging.getLogger(__name__)
_CANDIDATE: Final = " candidate "
"""Stands between the names of clip and candidate."""


@dataclass(frozen=True)
class Reviewable:
    """One candidate with all that its page shows. Digests name the blobs."""

    name: str
    """For people: `dance.mp4 #002 candidate 1`."""
    number: int
    """The candidate's number within its clip, which ends its name."""
    candidate: Candidate
    score: HandScore
    """Without the measures of single frames."""
    decision: Decision
    """The decision of the run's selection."""
    driving: str
    """The driving clip's video."""
    pose: str
    """The pose of the driving video."""
    found: str | None
    """The pose found in the candidate."""

    def described(self) -> dict[str, Any]:
        """Return what exports say of it."""
        return {
            "candidate": self.candidate.video,
            "name": self.name,
            "clip_id": self.candidate.clip_id,
            "seed": str(self.candidate.seed),
            "score": self.score.score,
            "kept": self.decision.kept,
            "reason": self.decision.reason,
        }


@dataclass(frozen=True)
class Queue:
    """The candidates of a run that selection decided about."""

    run_id: str
    config: str
    """Name of the run's config."""
    threshold: float
    rule: ReviewRule
    """The run's `selection.reviewers`."""
    candidates: tuple[Reviewable, ...]
    """Sorted by the distance of their score from the threshold, unscorable ones last; the same for every call."""
    positions: dict[str, int] = field(default_factory=dict)
    """Index of the first candidate with a video, by the video's digest."""
    stopped: dict[str, list[str]] = field(default_factory=dict)
    """Sentences about the candidates that early rejection stopped, which have no video, by the clip's name."""

    def clip(self, one: Reviewable) -> list[int]:
        """Return the indices of all candidates of a candidate's clip, sorted by number."""
        return self._clips[one.candidate.clip_id]

    def stopped_beside(self, one: Reviewable) -> list[str]:
        """Return a sentence for each candidate of the same clip that was not finished."""
        return self.stopped.get(one.name.rpartition(_CANDIDATE)[0], [])

    @cached_property
    def _clips(self) -> dict[str, list[int]]:
        clips: dict[str, list[int]] = {}
        for index in sorted(range(len(self.candidates)), key=lambda index: self.candidates[index].number):
            clips.setdefault(self.candidates[index].candidate.clip_id, []).append(index)
        return clips

    @cached_property
    def videos(self) -> frozenset[str]:
        """Digests of all videos that the page shows."""
        return frozenset(digest for one in self.candidates for digest in (one.candidate.video, one.driving))

    @cached_property
    def poses(self) -> frozenset[str]:
        return frozenset(digest for one in self.candidates for digest in (one.pose, one.found) if digest)


def open_queue(store: Store, run: RunFolder | None) -> Queue:
    """Open the queue of a run, or of the last run with a selection. Needs only the store, neither the run's videos nor
    its model. Raises :class:`ConfigError` when there is no selection."""
    for folder in [run] if run else runs(store):
        try:
            selected = selection.selected(folder, store)
        except StoreError as error:
            if run:
                raise
            log.warning("%s", error)
            continue
        if selected is not None:
            return _queue(store, folder, selected)
    what = f"run {run.run_id} has not come" if run else f"no run of the store at {store.address} has come"
    raise ConfigError(f"{what} to its selection; `ipa run CONFIG --to selection` does that, `ipa status` lists runs")


def _queue(store: Store, folder: RunFolder, selected: ActionResult) -> Queue:
    scores = _scores(store, folder)
    decisions = {(one.clip_id, one.seed): one for one in selection.decisions(selected, store)}
    found = []
    for scored in selection.scored_table(selected.action, store):
        candidate = scored.candidate
        if (candidate.video, scored.pose) not in scores:
            raise ConfigError(f"the scores of run {folder.run_id} were computed again since; run its config once more")
        name, result = scores[candidate.video, scored.pose]
        found.append(
            Reviewable(
                name=name,
                number=int(name.rpartition(" ")[2]),
                candidate=candidate,
                score=scored.score,
                decision=decisions[candidate.clip_id, candidate.seed],
                driving=result.action.inputs["driving"],
                pose=result.action.inputs["pose"],
                found=scored.pose,
            )
        )
    threshold = selection.threshold_of(selected.action, store)
    rule = cast(ReviewRule, selected.action.config.get("reviewers", "latest"))
    found.sort(key=lambda one: _urgency(one, threshold))
    positions: dict[str, int] = {}
    for index, one in enumerate(found):
        positions.setdefault(one.candidate.video, index)
    stopped = _stopped(folder)
    return Queue(folder.run_id, folder.name, threshold, rule, tuple(found), positions, stopped)


def _stopped(folder: RunFolder) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for drop in folder.dropped():
        clip, _, number = drop.name.rpartition(_CANDIDATE)
        if drop.reason.startswith(STOPPED):
            found.setdefault(clip, []).append(f"candidate {number} {drop.reason}")
    return found


def _scores(store: Store, folder: RunFolder) -> dict[tuple[str, str | None], tuple[str, ActionResult]]:
    """Return name and result of each score, by the candidate's video and the pose that was found in it."""
    names = folder.names("scores")
    results = store.actions.lookup("scores", names)
    return {
        (result.action.inputs["candidate"], blob(result, "pose")): (names[key], result)
        for key, result in results.items()
        if result.outcome == "done"
    }


def _urgency(one: Reviewable, threshold: float) -> tuple[bool, float, str, int]:
    score = one.score.score
    distance = 0.0 if score is None else abs(score - threshold)
    return score is None, distance, one.candidate.clip_id, one.candidate.seed
