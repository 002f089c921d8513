"""Make one score of the hands' components by a logistic regression. Its weights can't be negative, so no component that
gets better makes the score worse.

Every component of a hand becomes a utility in [0, 1] (:data:`UTILITIES`). A candidate enters with two numbers of each
utility: the mean over its scorable hands and frames, and the mean of the worst five frames in a row of one hand,
because a hand that collapses for five frames spoils the clip. ``ipa lab score fit`` fits the coefficients on faultless
videos against corrupted ones. They lie in ``quality.json`` with the recipe of their data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ipa_core.records import HandMeasures

Floats = NDArray[np.float64]
PACKAGED: Final = Path(__file__).with_name("quality.json")
FINGER_WEIGHTS: Final = Path(__file__).with_name("fingers.safetensors")
"""Weights of the network in scoring.fingers. They are named here because that module loads torch."""
WINDOW: Final = 5
"""Number of frames in a row over which :func:`worst` takes the mean."""

SOFTNESS: Final = 3.0
"""Softness of the score's curve. With 1 the score would be the probability that a video is none of the spoilt videos of
the fit, and all videos of a middling model would score in the lowest percent."""

UTILITIES: Final[dict[str, Callable[[float], float]]] = {
    "confidence": lambda value: value,
    "pck": lambda value: value,
    "error": lambda value: float(np.exp(-value / 0.15)),
    "wrist_distance": lambda value: float(np.exp(-value / 0.3)),
    "palm_agreement": lambda value: value,
    "plausibility": lambda value: value,
    "bone_consistency": lambda value: value,
    "jitter": lambda value: float(np.exp(-value / 0.1)),
    # Noise is no detail, so more sharpness than the driving video's lowers the utility.
    "sharpness": lambda value: min(value, 1 / max(value, 1e-6)),
    "fingers": lambda value: value,
    "reward": lambda value: value,
}
"""From a measure in its own unit (see records.HandMeasures) to a utility in [0, 1]; higher is better."""
_OF_POINTS: Final = frozenset(UTILITIES) - {"confidence", "fingers", "reward"}
FEATURES: Final = tuple(f"{kind} {name}" for kind in ("mean", "worst") for name in UTILITIES if name != "reward")
"""Features of a candidate. A reward is not fitted: it has a weight in the config."""


def utilities(hand: HandMeasures) -> dict[str, float]:
    """Return the utilities measured on one scorable hand in one frame. A hand that was not found has no points: its
    utilities of points are 0 and not missing."""
    found = {}
    for name, utility in UTILITIES.items():
        value = getattr(hand, name)
        if value is not None:
            found[name] = min(1.0, max(0.0, utility(value)))
        elif hand.error is None and name in _OF_POINTS:
            found[name] = 0.0
    return found


def means(hands: Sequence[HandMeasures], weights: Sequence[float]) -> dict[str, float]:
    """Return the weighted mean of each utility over scorable hands, without utilities that were measured nowhere."""
    table = _table(hands)
    weight = np.where(np.isfinite(table), np.asarray(weights)[:, None], 0.0)
    total = weight.sum(axis=0)
    summed = (np.nan_to_num(table) * weight).sum(axis=0)
    return {name: float(summed[i] / total[i]) for i, name in enumerate(UTILITIES) if total[i] > 0}


def worst(hands: Sequence[HandMeasures]) -> dict[str, float]:
    """Return the least mean of each utility over WINDOW frames in a row of one hand. Unscorable frames do not break a
    row. When a hand has fewer frames, the mean is over all of them."""
    found: dict[str, float] = {}
    for side in sorted({hand.side for hand in hands}):
        table = _table(sorted((hand for hand in hands if hand.side == side), key=lambda hand: hand.frame))
        for i, name in enumerate(UTILITIES):
            values = table[:, i][np.isfinite(table[:, i])]
            if len(values):
                span = min(WINDOW, len(values))
                least = float(np.convolve(values, np.ones(span) / span, "valid").min())
                found[name] = min(least, found.get(name, 1.0))
    return found


def features(mean: Mapping[str, float], least: Mapping[str, float]) -> dict[str, float]:
    """Name the numbers as in FEATURES; numbers that were not measured are missing."""
    both = {f"mean {name}": value for name, value in mean.items()}
    both |= {f"worst {name}": value for name, value in least.items()}
    return {name: both[name] for name in FEATURES if name in both}


class QualityModel(BaseModel):
    """``score = 1 / (1 + exp(-(bias + sum(weights * features)) / SOFTNESS))``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias: float
    weights: dict[str, float]
    """Weights by the names of FEATURES, all >= 0; weights that are 0 may be left out."""
    typical: dict[str, float]
    """Mean of each feature over faultless videos, used for a feature that could not be measured."""
    recipe: dict[str, Any]
    """Recipe of the fit: data, seeds, digests, versions, date."""

    @classmethod
    def load(cls, path: Path = PACKAGED) -> Self:
        """Read a model. Raises ``ValueError`` when the file holds no such model, an unknown or a negative weight."""
        model = cls.model_validate_json(path.read_text())
        unknown = set(model.weights) - set(FEATURES)
        if unknown or min(model.weights.values(), default=0.0) < 0:
            raise ValueError(f"{path}: weights must be >= 0 and named as the features are; got {model.weights}")
        return model

    def logit(self, measured: Mapping[str, float]) -> float:
        """Return the logit of :func:`features`, any real number."""
        return self.bias + sum(
            weight * measured.get(name, self.typical.get(name, 0.0)) for name, weight in self.weights.items()
        )

    def text(self) -> str:
        return json.dumps(self.model_dump(), indent=2, sort_keys=True) + "\n"


def score_of(logit: float) -> float:
    """Return the score in [0, 1]; 0.5 lies between faultless and spoilt."""
    return float(1 / (1 + np.exp(-np.clip(logit / SOFTNESS, -30, 30))))


def fit(
    clean: Sequence[Mapping[str, float]],
    corrupted: Sequence[Mapping[str, float]],
    *,
    recipe: dict[str, Any],
    names: Sequence[str] = FEATURES,
    decay: float = 1e-2,
) -> QualityModel:
    """Fit a logistic regression of clean against corrupted, with weights >= 0 and equal total weight of both classes.

    The loss contains ``decay`` / 2 times the mean of the squared weights. ``names``: the features to use. The same data
    give the same model. Raises ``ValueError`` when one class is empty.
    """
    from scipy.optimize import minimize

    if not clean or not corrupted:
        raise ValueError("a hand score is fitted on clean and on corrupted videos; one of the two is missing")
    typical = {
        name: float(np.mean(values)) for name in names if (values := [one[name] for one in clean if name in one])
    }
    names = [name for name in names if name in typical]
    table = np.array([[one.get(name, typical[name]) for name in names] for one in (*clean, *corrupted)])
    sign = np.concatenate([np.ones(len(clean)), -np.ones(len(corrupted))])
    share = np.concatenate([np.full(len(clean), 0.5 / len(clean)), np.full(len(corrupted), 0.5 / len(corrupted))])

    def loss(parameters: Floats) -> tuple[float, Floats]:
        margin = sign * (parameters[0] + table @ parameters[1:])
        value = float(share @ np.logaddexp(0, -margin)) + decay / 2 * float(parameters[1:] @ parameters[1:]) / len(
            names
        )
        pull = -share * sign / (1 + np.exp(np.clip(margin, -500, 500)))
        slope = np.concatenate([[pull.sum()], table.T @ pull + decay * parameters[1:] / len(names)])
        return value, slope

    start = np.concatenate([[-len(names) / 2], np.ones(len(names))])
    bounds = [(None, None), *[(0.0, None)] * len(names)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000})
    weights = {name: round(float(value), 5) for name, value in zip(names, found.x[1:], strict=True) if value > 1e-6}
    return QualityModel(
        bias=round(float(found.x[0]), 5),
        weights=weights,
        typical={name: round(typical[name], 5) for name in weights},
        recipe=recipe,
    )


def _table(hands: Sequence[HandMeasures]) -> Floats:
    """Return ``[hands, UTILITIES]``; NaN where nothing was measured."""
    rows = [utilities(hand) for hand in hands]
    return np.array([[row.get(name, np.nan) for name in UTILITIES] for row in rows], np.float64)
