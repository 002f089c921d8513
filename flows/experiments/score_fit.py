"""`ipa lab score fit`: fit the hand score's coefficients to rendered people, faultless and spoilt."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from flows.engine.machine import provenance
from flows.experiments.score_measures import Measured, cut, measure, seen_of
from flows.experiments.score_trials import FIRST_FITTED, FIRST_LONG, Trial, fitted_people, long_clips, trials_to_fit
from ipa_core.config import NEWEST_SCORE
from ipa_core.scoring import QualityModel, quality
from ipa_core.scoring.corruptions import CORRUPTIONS
from ipa_core.scoring.fitting import fit
from ipa_core.scoring.quality import Seen
from storage.digest import digest_file

LONG: Final = 6
"""Long clips to judge on, each with and without nuisances."""
LENGTHS: Final = (5, 9, 17, 33, 49, 81)
"""Frames to which a long clip is cut."""


def fit_score(folder: Path, output: Path, *, count: int, processes: int) -> QualityModel:
    """Measure (``folder`` keeps videos and measures for later calls), fit, write the coefficients to ``output``."""
    measured = measure(trials_to_fit(fitted_people(count), sorted(CORRUPTIONS)), folder, processes)
    model = fit_to(measured, count=count)
    output.write_text(model.text())
    return model


def fit_to(measured: Sequence[Measured], *, count: int, without: str | None = None) -> QualityModel:
    """Fit the regression; ``without`` is a kind of corruption to leave out."""
    clean = [one for one in measured if one.trial.kind is None]
    spoilt = [one for one in measured if one.trial.kind not in (None, without)]
    recipe = {
        "command": f"ipa lab score fit --people {count}",
        "people": [FIRST_FITTED, FIRST_FITTED + count - 1],
        "clean": len(clean),
        "corrupted": len(spoilt),
        "kinds": sorted({str(one.trial.kind) for one in spoilt}),
        "nuisances": sorted({name for one in measured for name in one.trial.nuisances}),
        "fingers": digest_file(quality.FINGER_WEIGHTS[NEWEST_SCORE]),
        "versions": provenance(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    return fit(_seen(clean), _seen(spoilt), recipe=recipe)


def lengths_of(folder: Path, processes: int) -> list[list[list[Seen]]]:
    """Return the hands of faultless long clips: of each clip and each of LENGTHS, those of the clips it is cut into."""
    trials = [
        Trial(subject, nuisances=names)
        for subject in long_clips(FIRST_LONG, LONG)
        for names in ((), ("remake", "h264"))
    ]
    found = [one.hands for one in measure(trials, folder, processes)]
    return [
        [[seen for part in cut(hands, length) if (seen := seen_of(part)) is not None] for length in LENGTHS]
        for hands in found
    ]


def order_of(model: QualityModel, one: Measured) -> float:
    """Return the logit of a measured video without the ceiling; NaN if no hand can be scored."""
    return model.order(one.seen.features()) if one.seen else float("nan")


def _seen(measured: Iterable[Measured]) -> list[Seen]:
    return [one.seen for one in measured if one.seen is not None]


def auroc(clean: np.ndarray, spoilt: np.ndarray) -> float:
    """Return the share of all (clean, spoilt) pairs in which the clean one is higher; ties count half."""
    return float(((clean[:, None] > spoilt) + 0.5 * (clean[:, None] == spoilt)).mean())
