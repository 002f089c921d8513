"""`ipa score preview`: its replay says what a run with that setting does."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.engine.walk import Scope
from flows.experiments.preview_tables import tables, verdict
from flows.experiments.score_preview import Calibration, Way, calibrate
from flows.stages.scores import scored_candidates
from ipa_core.config import EarlyConfig, LoraFile
from tests.fakes import FAKES, fake_config, write_videos
from tests.flows.conftest import run_fake
from tests.flows.test_added_loras import write_lora

pytestmark = pytest.mark.slow
SETTINGS: dict[str, object] = {"candidates__steps": 6, "clips__held_out": 0.0, "candidates__per_clip": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preview")
    write_videos(folder / "videos", 3)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Calibration:
    return calibrate(fake_config(folder, **SETTINGS), FAKES, clips=2, per_clip=4, shifts=[3.0], few_steps=[2])


def way(found: Calibration, setting: str, name: str) -> Way:
    [one] = [one for one in found.ways if (one.setting, one.name) == (setting, name)]
    return one


def test_all_candidates_of_the_chosen_clips_are_the_measure(found: Calibration) -> None:
    whole = way(found, "shift 1", "all candidates")
    assert (found.clips, found.per_clip) == (2, 4)
    assert (whole.cost, whole.best.value, whole.kept.value) == (1.0, 1.0, 1.0)


def test_a_level_has_the_steps_until_then(folder: Path, found: Calibration) -> None:
    noise = fake_config(folder, **SETTINGS).candidates.noise_levels
    own = [(level.t, level.steps) for level in found.levels if level.setting == "shift 1"]
    assert own == [(pytest.approx(noise[steps - 1], abs=1e-3), steps) for _, steps in own]
    assert len(own) == 3


def test_a_first_pass_of_few_steps_is_cheaper(found: Calibration) -> None:
    assert way(found, "2 steps", "all candidates").cost == pytest.approx(1 / 3)
    assert way(found, "shift 1", "first 2 steps, then half").cost == pytest.approx(1 / 3 + 1 / 2)


def test_the_alternatives_cost_half_at_most(found: Calibration) -> None:
    told = {one.setting: (one.name, one.cost) for one in found.alternatives if "candidates" in one.name}
    assert told == {
        "shift 1": ("2 candidates", 0.5),
        "shift 3": ("2 candidates", 0.5),
        "2 steps": ("4 candidates", pytest.approx(1 / 3)),
    }
    assert {one.name for one in found.alternatives if one.setting == "shift 1"} > {"2 candidates"}
    assert max(one.cost for one in found.alternatives) == 0.5


def test_a_lora_and_guidance_off_are_priced_by_their_passes(folder: Path) -> None:
    lora = write_lora(folder / "steps.safetensors")
    config = fake_config(folder, **SETTINGS, candidates__guidance_scale=2.0)
    about = {"guidance_until": [0.5], "lora": LoraFile(path=str(lora)), "lora_steps": 3}
    found = calibrate(config, FAKES, clips=1, per_clip=4, **about)  # type: ignore[arg-type]
    noise = config.candidates.noise_levels
    part = (6 + sum(t > 0.5 for t in noise)) / 12
    assert way(found, "guidance until t = 0.5", "all candidates").cost == pytest.approx(part)
    assert way(found, "steps.safetensors in 3 steps", "all candidates").cost == pytest.approx(3 / 12)
    counts = {one.setting: one.name for one in found.alternatives if "candidates" in one.name}
    assert counts["guidance until t = 0.5"] == f"{4 * 0.5 / part:.3g} candidates"


def best_of_clips(folder: Path, early: EarlyConfig | None) -> float:
    """The sum over the clips of the best finished score, in a run."""
    done = run_fake(fake_config(folder, **SETTINGS, candidates__early=early), Scope(last="scores"))
    best: dict[str, float] = {}
    for one in scored_candidates(done.view):
        clip = one.scored.candidate.clip_id
        best[clip] = max(best.get(clip, 0.0), one.scored.score.score or 0.0)
    return sum(best.values())


def test_the_replay_is_what_a_run_does(folder: Path) -> None:
    found = calibrate(fake_config(folder, **SETTINGS), FAKES, clips=3, per_clip=4)
    replayed = way(found, "shift 1", "t = 0.60, half")
    early = EarlyConfig(at=(0.65,))
    assert replayed.cost == fake_config(folder, **SETTINGS, candidates__early=early).candidates.early_share
    assert replayed.best.value == pytest.approx(best_of_clips(folder, early) / best_of_clips(folder, None), abs=1e-3)


def test_a_second_call_computes_nothing(folder: Path, found: Calibration) -> None:
    assert calibrate(fake_config(folder, **SETTINGS), FAKES, 2, 4, shifts=[3.0], few_steps=[2]) == found


def test_people_read_three_tables_and_a_verdict(found: Calibration) -> None:
    levels, ways, alternatives = tables(found)
    assert len(levels[3]) == len(found.levels) and len(ways[3]) == len(found.ways)
    assert len(alternatives[3]) == len(found.alternatives)
    assert verdict(found)[0].startswith("2 clips, 4 candidates of each. Kept: a score of at least 0.1 ")
