"""Reliability of measures, on the candidates of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.score_reliability import reliability_table, run_reliability
from ipa_core.config import ConfigError
from storage import Store
from tests.fakes import fake_config
from tests.flows.test_review import rerun


def test_every_measure_of_a_run(folder: Path) -> None:
    done = rerun(folder)
    found = run_reliability(done.store, None)
    clips = len(done.results.done("candidates"))
    each = fake_config(folder).candidates.per_clip
    assert (found["hand score"].clips, found["hand score"].candidates) == (clips, clips * each)
    assert found["PSNR-Hand"].candidates == clips * each
    assert found["reward"].candidates == 0
    # The fake extractor reads presence off each frame, a noise of its own.
    assert found["confidence"].within_share is not None and found["confidence"].within_share > 0
    table = reliability_table(found)
    assert "PSNR-Hand" in table and "reward" not in table


def test_a_store_without_scores(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run of this store has scored candidates"):
        run_reliability(Store(tmp_path), None)
