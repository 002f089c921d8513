"""The threshold that people's decisions teach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ipa_core.config import ConfigError, SelectionConfig
from ipa_core.scoring.calibration import Calibration, Judged, calibrate


def judged(scores: list[float], kept: list[bool], clips: int = 20) -> list[Judged]:
    return [
        Judged(video=f"{number:064x}", clip_id=f"clip-{number % clips}", score=score, kept=keep)
        for number, (score, keep) in enumerate(zip(scores, kept, strict=True))
    ]


def divided(each: int = 20, middle: float = 0.6, width: float = 0.05) -> list[Judged]:
    """People who keep a score as often as a logistic curve says: ``each`` decisions at each of 20 scores."""
    scores = [(number // each + 0.5) / 20 for number in range(20 * each)]
    share = [1 / (1 + np.exp(-(score - middle) / width)) for score in scores]
    return judged(scores, [number % each < round(each * one) for number, one in enumerate(share)])


def test_the_threshold_lies_where_people_are_divided() -> None:
    found = calibrate(divided(), "ab" * 32, "r")
    assert found.threshold == pytest.approx(0.6, abs=0.01)
    low, high = found.threshold_interval
    assert high is not None
    assert 0.5 < low <= 0.6 <= high < 0.7
    assert found.softness == pytest.approx(2 * np.log(3) * 0.05, abs=0.02)  # of a logistic curve


def test_a_curve_never_falls_and_lies_in_its_interval() -> None:
    curve = calibrate(divided(), "ab" * 32, "r").curve
    kept = [one.kept for one in curve]
    assert kept == sorted(kept)
    assert all(one.low <= one.kept <= one.high for one in curve)


def test_a_sharp_line_lies_between_the_last_rejected_and_the_first_kept() -> None:
    scores = [number / 40 for number in range(40)]
    found = calibrate(judged(scores, [score >= 0.5 for score in scores]), "ab" * 32, "r")
    assert (found.threshold, found.softness) == (0.4875, 0.0125)


def test_a_share_becomes_a_score() -> None:
    found = calibrate(divided(), "ab" * 32, "r")
    half, most = (found.apply(SelectionConfig(threshold=share)).threshold for share in (0.5, 0.9))
    assert half == found.threshold
    assert half < most


def test_scores_that_tell_nothing_reach_no_high_share() -> None:
    scores = [number / 80 for number in range(80)]
    found = calibrate(judged(scores, [number % 4 == 0 for number in range(80)]), "ab" * 32, "r")
    assert found.threshold is None or found.threshold_interval[1] is None
    with pytest.raises(ConfigError, match=r"^selection.calibration: people kept at most \d+% of the candidates"):
        found.apply(SelectionConfig(threshold=0.99))


@pytest.mark.parametrize("kept", [[True] * 39, [True] * 40, [False] * 50])
def test_too_few_decisions_are_one_sentence(kept: list[bool]) -> None:
    with pytest.raises(
        ConfigError, match=r"^run r has \d+ accepted and \d+ rejected .* needs at least 40, some of each"
    ):
        calibrate(judged([0.5] * len(kept), kept), "ab" * 32, "r")


def test_equal_decisions_make_equal_bytes() -> None:
    decisions = divided(3)
    assert calibrate(decisions, "ab" * 32, "r").to_bytes() == calibrate(decisions[::-1], "ab" * 32, "r").to_bytes()


def test_a_file_is_read_again(tmp_path: Path) -> None:
    found = calibrate(divided(3), "ab" * 32, "r")
    (tmp_path / "c.json").write_bytes(found.to_bytes())
    assert Calibration.read(str(tmp_path / "c.json")) == found


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff"])
def test_another_file_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.json").write_bytes(data)
    with pytest.raises(ConfigError, match=r"^selection.calibration: .*c.json can't be read: it holds no calibration"):
        Calibration.read(str(tmp_path / "c.json"))
