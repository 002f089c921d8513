"""`ipa score calibrate`: what people decided about a run's candidates, against their scores."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from flows.engine.run_folder import RunFolder
from flows.stages.scores import Scores, judge_of
from flows.stages.selection import Material, selected
from ipa_core.config import ConfigError, SelectionConfig
from ipa_core.scoring import select
from ipa_core.scoring.calibration import Calibration, Judged, calibrate
from storage import Store
from storage.digest import digest_config
from storage.reviews import Reviews, verdicts


@dataclass(frozen=True)
class Kept:
    """What the rules keep, without reviews."""

    threshold: float
    candidates: int
    clips: int


@dataclass(frozen=True)
class Calibrated:
    calibration: Calibration
    of: int
    """Candidates of the run."""
    before: Kept
    after: Kept | None
    """With the calibration's threshold; ``None``: there is none."""

    @property
    def key(self) -> str:
        """Follows from the decisions, the scores and what computed them: the same ones make the same file."""
        about = self.calibration
        judged = [[one.video, one.score, one.kept] for one in about.judged]
        return digest_config({"version": about.version, "judge": about.judge, "judged": judged})


def run_calibration(folder: RunFolder, store: Store) -> Calibrated:
    """Raises ``ConfigError`` when the run has no selection, or too few decisions."""
    found = selected(folder, store)
    if found is None:
        raise ConfigError(
            f"run {folder.run_id} has not come to its selection; `ipa run CONFIG --to selection` does that"
        )
    material = Material.of(found.action, store)
    try:
        config = SelectionConfig.model_validate(found.action.config)
    except ValidationError:
        raise ConfigError(
            f"another version made the selection of run {folder.run_id}; run its config once more"
        ) from None
    verdict = verdicts(Reviews(store.address).histories(), config.reviewers)
    judged = [
        Judged(video=video, clip_id=one.candidate.clip_id, score=one.score.score, kept=verdict[video] == "accept")
        for video, one in {one.candidate.video: one for one in material.scored}.items()
        if video in verdict and one.score.score is not None
    ]
    calibration = calibrate(judged, _judge(folder, store), folder.run_id)
    if material.calibration is not None:
        config = material.calibration.apply(config)
    after = None
    if calibration.threshold is not None:
        after = _kept(material, config.model_copy(update={"threshold": calibration.threshold}))
    return Calibrated(calibration, len(material.scored), _kept(material, config), after)


def _kept(material: Material, config: SelectionConfig) -> Kept:
    kept = [one for one in select(material.scored, config, {}, material.driving).decisions if one.kept]
    return Kept(config.threshold, len(kept), len({one.clip_id for one in kept}))


def _judge(folder: RunFolder, store: Store) -> str:
    results = store.actions.lookup(Scores.name, folder.names(Scores.name)).values()
    found = {judge_of(result.action) for result in results}
    if len(found) != 1:
        raise ConfigError(f"the scores of run {folder.run_id} are not there; run its config once more")
    return found.pop()
