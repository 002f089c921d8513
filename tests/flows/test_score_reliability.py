"""Reliability of measures, on the candidates of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli.experiments import reliability_table
from flows.engine.run_folder import RunFolder, runs
from flows.engine.walk import Scope
from flows.experiments.score_reliability import run_reliability
from ipa_core.config import ConfigError
from tests.fakes import fake_config
from tests.flows.conftest import run_fake
from tests.flows.test_review import rerun


def test_every_measure_of_a_run(folder: Path) -> None:
    done = rerun(folder)
    found = run_reliability(next(runs(done.store)), done.store)
    clips = len(done.results.done("candidates"))
    each = fake_config(folder).candidates.per_clip
    assert (found["hand score"].clips, found["hand score"].candidates) == (clips, clips * each)
    assert found["PSNR-Hand"].candidates == clips * each
    assert found["reward"].candidates == 0
    # The fake extractor reads presence off each frame, a noise of its own.
    assert found["presence"].within_share is not None and found["presence"].within_share > 0
    table = reliability_table(found)
    assert "PSNR-Hand" in table and "reward" not in table


def test_the_score_is_the_runs_own(folder: Path) -> None:
    done = rerun(folder)
    scores = [result.record["score"] for _, result in done.results.done("scores")]
    mean = run_reliability(next(runs(done.store)), done.store)["hand score"].mean
    assert mean == pytest.approx(sum(scores) / len(scores), abs=1e-5)


def test_the_best_are_chosen_by_the_score(folder: Path) -> None:
    done = rerun(folder)
    score = run_reliability(next(runs(done.store)), done.store)["hand score"]
    assert score.gain is not None and score.gain > 0
    assert score.gain == score.most


def test_what_is_measured_over_several_frames_has_no_halves(folder: Path) -> None:
    done = rerun(folder)
    found = run_reliability(next(runs(done.store)), done.store)
    assert (found["jitter"].split_half, found["bone_consistency"].split_half) == (None, None)


def test_a_run_without_scores(folder: Path) -> None:
    done = run_fake(fake_config(folder), Scope(last="poses"))
    run = RunFolder.new(done.store)
    run.write_config(fake_config(folder))
    run.write_items(done.results)
    with pytest.raises(ConfigError, match=r"has scored no candidates"):
        run_reliability(run, done.store)
