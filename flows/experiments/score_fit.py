"""`ipa lab score fit`: fit the hand score's coefficients to rendered people, faultless and spoilt."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from flows.engine.machine import provenance
from flows.experiments.score_material import SCORES, Measured, measure, people, trials
from ipa_core.records import HandMeasures
from ipa_core.scoring import QualityModel, quality
from ipa_core.scoring.corruptions import CORRUPTIONS
from storage.digest import digest_file

PEOPLE = 40
FIRST_FITTED, FIRST_TESTED = 0, 1000
"""First seeds of the people to fit on and of those to test on."""


def fit_score(folder: Path, output: Path, *, count: int, processes: int) -> QualityModel:
    """Measure (``folder`` keeps measures for later calls), fit, write the coefficients to ``output``."""
    measured = measure(trials(people(FIRST_FITTED, count), sorted(CORRUPTIONS)), folder, processes)
    model = fit_to(measured, count=count)
    output.write_text(model.text())
    return model


def fit_to(measured: Sequence[Measured], *, count: int, without: str | None = None) -> QualityModel:
    """Fit the regression; ``without`` is a kind of corruption to leave out."""
    from ipa_core.scoring.quality import FINGER_WEIGHTS

    clean = [features_of(one.hands) for one in measured if one.trial.kind is None]
    spoilt = [features_of(one.hands) for one in measured if one.trial.kind not in (None, without)]
    recipe = {
        "command": f"ipa lab score fit --people {count}",
        "people": [FIRST_FITTED, FIRST_FITTED + count - 1],
        "clean": len(clean),
        "corrupted": len(spoilt),
        "kinds": sorted({one.trial.kind for one in measured if one.trial.kind not in (None, without)}),
        "fingers": digest_file(FINGER_WEIGHTS),
        "versions": provenance(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    return quality.fit([one for one in clean if one], [one for one in spoilt if one], recipe=recipe)


def features_of(hands: Collection[HandMeasures]) -> Mapping[str, float]:
    """Return the features of the regression; empty if no hand can be scored."""
    scored = [hand for hand in hands if hand.unscorable is None]
    if not scored:
        return {}
    weights = [min(1.0, (hand.size or 0.0) / SCORES.trusted_hand_size) for hand in scored]
    return quality.features(quality.means(scored, weights), quality.worst(scored))


def auroc(clean: np.ndarray, spoilt: np.ndarray) -> float:
    """Return the share of all (clean, spoilt) pairs in which the clean one is higher; ties count half."""
    return float(((clean[:, None] > spoilt) + 0.5 * (clean[:, None] == spoilt)).mean())
