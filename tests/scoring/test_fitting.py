from __future__ import annotations

import numpy as np
import pytest

from ipa_core.scoring.fitting import fit
from ipa_core.scoring.quality import Seen, score_of

NAMES = ("presence", "error", "fingers")


def samples(shift: float, seed: int) -> list[Seen]:
    draws = np.random.default_rng(seed).uniform(0, 0.6, (40, len(NAMES))) + shift
    return [Seen({}, dict(zip(NAMES, row.tolist(), strict=True))) for row in draws]


def test_a_fit_tells_its_data_apart() -> None:
    model = fit(samples(0.4, 1), samples(0.0, 2), recipe={})
    clean, spoilt = ([score_of(model.logit(one.features())) for one in samples(shift, 3)] for shift in (0.4, 0.0))
    assert np.mean(clean) > 0.5 > np.mean(spoilt)


def test_a_fit_is_reproducible() -> None:
    fits = [fit(samples(0.4, 1), samples(0.0, 2), recipe={}) for _ in range(2)]
    assert fits[0] == fits[1]


def test_what_is_higher_in_spoilt_videos_gets_no_weight() -> None:
    clean, spoilt = samples(0.4, 1), samples(0.0, 2)
    for one, other in zip(clean, spoilt, strict=True):
        one.worst["fingers"], other.worst["fingers"] = 0.1, 0.9
    assert "worst fingers" not in fit(clean, spoilt, recipe={}).weights


def test_a_fit_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="one of the two is missing"):
        fit(samples(0.4, 1), [], recipe={})
