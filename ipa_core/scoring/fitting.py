"""Fit the coefficients of the hand score (scoring.quality) to faultless and spoilt videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ipa_core.config import NEWEST_SCORE
from ipa_core.scoring.quality import QualityModel, Seen, feature_names

Floats = NDArray[np.float64]
ENOUGH: Final = 0.2
"""Share of the faultless videos below the value up to which a feature counts."""
CEILING: Final = 0.07
"""Share of the faultless videos below the ceiling of the logit."""
_TO_THE_END: Final = {"maxiter": 20_000, "maxfun": 100_000, "ftol": 1e-13, "gtol": 1e-8}
"""With the usual tolerances the search stops far from the least loss."""


def fit(clean: Sequence[Seen], spoilt: Sequence[Seen], *, recipe: dict[str, Any], decay: float = 3e-3) -> QualityModel:
    """Fit a logistic regression of clean against spoilt, with weights >= 0 and equal total weight of both classes.

    The loss contains ``decay`` / 2 times the mean of the squared weights. The same data give the same model. Raises
    ``ValueError`` when one class is empty.
    """
    if not clean or not spoilt:
        raise ValueError("a hand score is fitted on clean and on spoilt videos; one of the two is missing")
    model = QualityModel(version=NEWEST_SCORE, bias=0, weights={}, typical={}, recipe=recipe)
    rows = [model.counted(one.features()) for one in clean]
    known = {name: [row[name] for row in rows if name in row] for name in feature_names(NEWEST_SCORE)}
    enough = {name: _rounded(np.quantile(values, ENOUGH)) for name, values in known.items() if values}
    model = model.model_copy(update={"enough": enough})
    rows = [model.counted(one.features()) for one in clean]
    others = [model.counted(one.features()) for one in spoilt]
    typical = {name: float(np.mean([row[name] for row in rows if name in row])) for name in enough}
    # Without spread a feature tells nothing.
    typical = {name: value for name, value in typical.items() if len({row.get(name) for row in (*rows, *others)}) > 1}
    bias, weights = _regression(rows, others, typical, decay)
    model = model.model_copy(
        update={
            "bias": bias,
            "weights": weights,
            "typical": {name: _rounded(typical[name]) for name in weights},
            "enough": {name: value for name, value in enough.items() if name in weights},
        }
    )
    reached = [model.logit(one.features()) for one in clean]
    return model.model_copy(update={"ceiling": _rounded(np.quantile(reached, CEILING))})


def _regression(
    clean: Sequence[Mapping[str, float]], spoilt: Sequence[Mapping[str, float]], typical: dict[str, float], decay: float
) -> tuple[float, dict[str, float]]:
    from scipy.optimize import minimize

    table = np.array([[one.get(name, usual) for name, usual in typical.items()] for one in (*clean, *spoilt)])
    sign = np.concatenate([np.ones(len(clean)), -np.ones(len(spoilt))])
    share = np.concatenate([np.full(len(clean), 0.5 / len(clean)), np.full(len(spoilt), 0.5 / len(spoilt))])

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weights = parameters[1:]
        margin = sign * (parameters[0] + table @ weights)
        value = float(share @ np.logaddexp(0, -margin)) + decay / 2 * float(weights @ weights) / len(weights)
        pull = -share * sign / (1 + np.exp(np.clip(margin, -500, 500)))
        slope = np.concatenate([[pull.sum()], table.T @ pull + decay * weights / len(weights)])
        return value, slope

    start = np.concatenate([[-len(typical) / 2], np.ones(len(typical))])
    bounds = [(None, None), *[(0.0, None)] * len(typical)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=_TO_THE_END)
    weights = {name: _rounded(value) for name, value in zip(typical, found.x[1:], strict=True) if value > 1e-6}
    return _rounded(found.x[0]), weights


def _rounded(value: Any) -> float:
    return round(float(value), 5)
