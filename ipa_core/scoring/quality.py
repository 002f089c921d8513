"""Make one score of the hands' components: a logistic function of their weighted sum. Weights cannot be negative, so no
component that gets better makes the score worse.

Every component of a hand becomes a utility in [0, 1] (:data:`UTILITIES`). A candidate enters with two numbers of each
utility: the mean over its scorable hands and frames, and the mean of the worst frames in a row of one hand (five, or a
third of a longer clip), because a hand that collapses for a while spoils the clip. ``ipa lab score fit`` fits the
coefficients on faultless videos against corrupted ones (scoring.fitting). They lie in a JSON file with the recipe of
their data.

Versions 1 and 2 stay for the stores that have their scores. Version 2 takes other measures (see scoring.aligned), and
knows how faultless videos measure: the worst of many frames is worse than that of few, and the score ends at a ceiling
that most faultless videos reach, whatever harmless changes they have. Version 3 lays the pictures of both hands upon
each other first (see scoring.registration), and its finger network has learnt what a hand without its thumb looks like.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from ipa_core.config import NEWEST_SCORE, ScoreVersion
from ipa_core.records import HandMeasures

PACKAGED: Final[dict[ScoreVersion, Path]] = {
    1: Path(__file__).with_name("quality.json"),
    2: Path(__file__).with_name("quality-2.json"),
    3: Path(__file__).with_name("quality-3.json"),
}
FINGER_WEIGHTS: Final[dict[ScoreVersion, Path]] = {
    1: Path(__file__).with_name("fingers.safetensors"),
    2: Path(__file__).with_name("fingers-2.safetensors"),
    3: Path(__file__).with_name("fingers-3.safetensors"),
}
"""Weights of the networks in scoring.fingers and scoring.finger_pairs. They are named here because those modules load
torch."""
WINDOW: Final = 5
"""Least number of frames in a row over which the worst is taken."""
SHARE: Final = 1 / 3
"""Share of a hand's frames over which version 2 takes the worst. With a fixed number, the worst of more is worse."""

SOFTNESS: Final = 3.0
"""Softness of the score's curve. With 1 the score would be the probability that a video is none of the spoilt videos of
the fit, and all videos of a middling model would score in the lowest percent."""

Utility = Callable[[float, float], float]


def _same(value: float, size: float) -> float:
    return value


def _falling(within: float, *, beyond: float = 0.0, pixels: float = 0.0) -> Utility:
    """Return a utility that falls by a factor of e every ``within`` from ``beyond`` on. A detector errs by some pixels
    whatever the size of the hand, so ``pixels`` over that size are free too."""
    return lambda value, size: float(np.exp(-max(0.0, value - beyond - pixels / size) / within))


def _enough_for_its_size(pixels: float) -> Utility:
    """Return a utility that is 1 from the logit 1 - ``pixels`` / size on: of a small hand, a codec leaves too little to
    be surer. No logit is above 1 (scoring.finger_pairs)."""
    return lambda value, size: value * (1 + float(np.exp(pixels / size - 1)))


_FIRST: Final[dict[str, Utility]] = {
    "confidence": _same,
    "pck": _same,
    "error": _falling(0.15),
    "wrist_distance": _falling(0.3),
    "palm_agreement": _same,
    "plausibility": _same,
    "bone_consistency": _same,
    "jitter": _falling(0.1),
    # Noise is no detail, so more sharpness than the driving video's lowers the utility.
    "sharpness": lambda value, size: min(value, 1 / max(value, 1e-6)),
    "fingers": _same,
    "reward": _same,
}
_SECOND: Final[dict[str, Utility]] = {
    "presence": _same,
    "pck": _same,
    "error": _falling(0.15, beyond=0.03, pixels=1.0),
    "place": _falling(0.5, beyond=0.2),
    "scale": _falling(0.3, beyond=0.1),
    "rotation": _falling(0.5, beyond=0.15),
    "palm_agreement": _same,
    "plausibility": _same,
    "bone_consistency": _same,
    "jitter": _falling(0.15, beyond=0.03, pixels=2.0),
    "sway": _falling(0.1, beyond=0.05, pixels=2.0),
    "sharpness": _same,
    "fingers": _enough_for_its_size(20.0),
    "reward": _same,
}
# The pictures, laid upon each other, say where a hand is: ten times as precisely as points do.
_THIRD: Final[dict[str, Utility]] = {**_SECOND, "sway": _falling(0.1, beyond=0.02, pixels=0.3)}
UTILITIES: Final[dict[ScoreVersion, dict[str, Utility]]] = {1: _FIRST, 2: _SECOND, 3: _THIRD}
"""From a measure in its own unit (see records.HandMeasures) to a utility in [0, 1]; higher is better."""
_NOT_OF_POINTS: Final = frozenset({"confidence", "presence", "fingers", "reward"})
_BY_PICTURE: Final = frozenset({"sway", "sharpness"})
"""Version 3 takes these from the pictures."""


def feature_names(version: ScoreVersion) -> tuple[str, ...]:
    """Return the features of a candidate. A reward is not fitted: it has a weight in the config."""
    return tuple(f"{kind} {name}" for kind in ("mean", "worst") for name in UTILITIES[version] if name != "reward")


def utilities(hand: HandMeasures, version: ScoreVersion) -> dict[str, float]:
    """Return the utilities measured on one scorable hand in one frame. A hand that was not found has no points: its
    utilities of points are 0 and not missing. Since version 3 they are missing where its picture shows that it is
    there."""
    missed = hand.error is None and not (version > 2 and hand.presence == 1)
    by_picture = _BY_PICTURE if version > 2 else frozenset[str]()
    found = {}
    for name, utility in UTILITIES[version].items():
        value = getattr(hand, name)
        if value is not None:
            found[name] = min(1.0, max(0.0, utility(value, hand.size or 1.0)))
        elif missed and name not in _NOT_OF_POINTS | by_picture:
            found[name] = 0.0
    return found


@dataclass(frozen=True)
class Seen:
    """The utilities of a candidate's scorable hands by name."""

    mean: dict[str, float]
    """Weighted mean over hands and frames; nothing for a utility that was measured nowhere."""
    worst: dict[str, float]
    """Least mean over :func:`window` frames in a row of one hand. Unscorable frames do not break a row. When a hand has
    fewer frames, the mean is over all of them."""

    def features(self) -> dict[str, float]:
        return {f"mean {name}": value for name, value in self.mean.items() if name != "reward"} | {
            f"worst {name}": value for name, value in self.worst.items() if name != "reward"
        }


def window(frames: int, version: ScoreVersion) -> int:
    """Return the number of frames in a row over which the worst of a hand is taken that is seen in ``frames``."""
    return WINDOW if version == 1 else max(WINDOW, round(SHARE * frames))


def seen(hands: Sequence[HandMeasures], weights: Sequence[float], version: ScoreVersion) -> Seen:
    """Sum up the scorable hands of a candidate, at least one."""
    names = tuple(UTILITIES[version])
    rows = [utilities(hand, version) for hand in hands]
    table = np.array([[row.get(name, np.nan) for name in names] for row in rows], np.float64)
    weight = np.where(np.isfinite(table), np.asarray(weights)[:, None], 0.0)
    total, summed = weight.sum(axis=0), (np.nan_to_num(table) * weight).sum(axis=0)
    worst: dict[str, float] = {}
    for side in sorted({hand.side for hand in hands}):
        order = sorted((hand.frame, row) for row, hand in enumerate(hands) if hand.side == side)
        mine = table[[row for _, row in order]]
        for name, column in zip(names, mine.T, strict=True):
            values = column[np.isfinite(column)]
            if len(values):
                span = min(window(len(values), version), len(values))
                least = float(np.convolve(values, np.ones(span) / span, "valid").min())
                worst[name] = min(least, worst.get(name, 1.0))
    mean = {name: float(summed[i] / total[i]) for i, name in enumerate(names) if total[i] > 0}
    return Seen(mean, worst)


class QualityModel(BaseModel):
    """``score = 1 / (1 + exp(-min(ceiling, bias + sum(weights * features)) / SOFTNESS))``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ScoreVersion = 1
    bias: float
    weights: dict[str, float]
    """Weights by the names of :func:`feature_names`, all >= 0; weights that are 0 may be left out."""
    typical: dict[str, float]
    """Mean of each feature over faultless videos, used for a feature that could not be measured."""
    enough: dict[str, float] = {}
    """A feature counts up to this value, which most faultless videos reach."""
    ceiling: float | None = None
    """The logit counts up to this value, which most faultless videos reach: in different clips, what lies above is
    nuisance. In one clip it still tells candidates apart (:meth:`order`)."""
    recipe: dict[str, Any]
    """Recipe of the fit: data, seeds, digests, versions, date."""

    @classmethod
    def load(cls, path: Path = PACKAGED[NEWEST_SCORE]) -> Self:
        """Read a model. Raises ``ValueError`` when the file holds no such model, an unknown or a negative weight."""
        model = cls.model_validate_json(path.read_text())
        unknown = set(model.weights) - set(feature_names(model.version))
        if unknown or min(model.weights.values(), default=0.0) < 0:
            raise ValueError(f"{path}: weights must be >= 0 and named as the features are; got {model.weights}")
        return model

    def counted(self, features: Mapping[str, float]) -> dict[str, float]:
        """Return the features, cut where they are good enough."""
        return {name: min(value, self.enough.get(name, np.inf)) for name, value in features.items()}

    def order(self, features: Mapping[str, float]) -> float:
        """Return the logit of a candidate's features, any real number, without the ceiling. It orders candidates whose
        scores are equal."""
        counted = self.counted(features)
        return self.bias + sum(
            weight * counted.get(name, self.typical.get(name, 0.0)) for name, weight in self.weights.items()
        )

    def logit(self, features: Mapping[str, float]) -> float:
        """Return the logit of a candidate's features, any real number up to the ceiling."""
        order = self.order(features)
        return order if self.ceiling is None else min(order, self.ceiling)

    def text(self) -> str:
        return json.dumps(self.model_dump(), indent=2, sort_keys=True) + "\n"


def score_of(logit: float) -> float:
    """Return the score in [0, 1]; 0.5 lies between faultless and spoilt."""
    return float(1 / (1 + np.exp(-np.clip(logit / SOFTNESS, -30, 30))))
