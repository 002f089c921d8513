"""`ipa plan` says what would be computed and why, and computes nothing."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from flows.cli.plan_text import plan_text
from flows.engine import plan as plan_module
from flows.engine.components import Components, model_folder
from flows.engine.estimates import Estimate
from flows.engine.machine import provenance
from flows.engine.plan import Plan, StagePlan, plan_run
from flows.engine.run_folder import RunFolder
from flows.engine.walk import Scope
from flows.stages import STAGE_NAMES, STAGES
from flows.stages.finetune import LORA
from ipa_core.config import RunConfig
from ipa_core.config_file import load_config
from ipa_core.models import Network, known_network
from ipa_core.models.cost import gpu_hours
from storage import Store
from storage.registry import Registry
from tests.fake_model import FakeModel
from tests.fakes import FAKES, fake_config, write_video, write_videos
from tests.flows.conftest import VIDEOS, Done, run_fake
from tests.storage.test_registry import registered


def plan(folder: Path, **changes: object) -> dict[str, StagePlan]:
    config = fake_config(folder, **changes)
    store = Store(folder / "store")
    return {row.name: row for row in plan_run(store, config, STAGES, FAKES).stages}


def remembered(folder: Path) -> Done:
    """Leave a run's item list behind, as every flow run does."""
    done = run_fake(fake_config(folder))
    RunFolder.new(done.store).write_items(done.results)
    return done


def test_a_finished_run_has_nothing_to_do(folder: Path) -> None:
    assert {name: row.compute for name, row in plan(folder).items()} == dict.fromkeys(STAGE_NAMES, 0)


def test_an_empty_store_lists_what_it_can_and_estimates_the_rest(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 10)
    rows = plan(tmp_path)
    assert (rows["clips"].compute, rows["clips"].why) == (10, {"new input": 10})
    assert (rows["poses"].compute, rows["poses"].uncounted) == (0, 10)
    assert (rows["candidates"].uncounted, rows["scores"].uncounted) == (6, 12)


def test_a_changed_field_is_named_with_both_values(folder: Path) -> None:
    remembered(folder)
    rows = plan(folder, alignment__beta=500.0)
    assert rows["finetune"].why == {"alignment.beta: 600.0 -> 500.0": 1}
    assert set(rows["evaluation"].why) == {"follows from finetune", "follows from evaluation"}
    assert rows["candidates"].compute == 0


def test_clips_under_a_lora_that_no_run_trained_are_counted(folder: Path) -> None:
    """No run has items of these names yet, so the plan can't list them."""
    done = run_fake(fake_config(folder))
    shutil.rmtree(folder / "store" / "runs")
    held_out = sum(entry.item.name.endswith("base") for entry in done.results["evaluation"])
    row = plan(folder, alignment__beta=500.0)["evaluation"]
    assert held_out > 0 and (row.compute, row.uncounted) == (0, held_out)


def test_changed_bytes_are_told_from_a_new_input(folder: Path) -> None:
    remembered(folder)
    write_video(folder / "videos" / "video-0002.mp4", number=77)
    write_video(folder / "videos" / "new.mp4", number=78)
    rows = plan(folder)
    assert rows["clips"].why == {"new input": 1, "the video's bytes changed": 1}
    assert rows["clips"].cached == VIDEOS - 1


def test_changed_weights_are_named(folder: Path) -> None:
    remembered(folder)
    (folder / "model" / "weights").write_bytes(b"other weights")
    assert list(plan(folder)["candidates"].why) == ["model weights changed"]


def test_a_changed_champion_is_named(folder: Path) -> None:
    done = remembered(folder)
    lora = done.output("finetune", LORA)
    entry = registered("a").model_copy(update={"adapter": lora})
    lineage = entry.lineage.model_copy(update={"model": done.results["finetune"][0].item.action.inputs["model"]})
    registry = Registry(done.store.address)
    registry.append(lambda state: entry.model_copy(update={"lineage": lineage}))
    registry.promote(lora, "me", "to have one", "2026-01-01T00:00:00+00:00")
    assert plan(folder, rounds__on_policy=True)["candidates"].why == {
        "the LoRA changed": len(done.results["candidates"])
    }


def test_missing_bytes_are_named(folder: Path) -> None:
    done = run_fake(fake_config(folder))
    done.store.objects.delete(done.output("finetune", "README.md"))
    assert plan(folder)["finetune"].why == {"bytes missing": 1}


def test_a_renamed_video_is_nothing_to_do(folder: Path) -> None:
    remembered(folder)
    (folder / "videos" / "video-0002.mp4").rename(folder / "videos" / "other.mp4")
    assert plan(folder)["clips"].compute == 0


WAN = Path(__file__).parents[2] / "configs" / "wan-vace-14b.yaml"
WITHOUT_WEIGHTS = replace(FAKES, model_folder=model_folder)


def wan_config(*overrides: str) -> RunConfig:
    return load_config(WAN, ["execution.workers=2", *overrides])


def network_of(config: RunConfig) -> Network:
    known = known_network(config)
    assert known is not None
    return known[1]


def wan_plan(tmp_path: Path, *overrides: str, components: Components = WITHOUT_WEIGHTS) -> Plan:
    """For 100 clips of a store that holds nothing."""
    return plan_run(Store(tmp_path / "store"), wan_config(*overrides), STAGES, components, clips=100)


def test_gpu_hours_of_a_known_model_follow_from_the_formula(tmp_path: Path) -> None:
    rows = {row.name: row for row in wan_plan(tmp_path, "execution.gpus=8").stages}
    config = wan_config()
    network = network_of(config)
    a_video = gpu_hours(network.candidate_flops(config))
    assert rows["candidates"].estimate.gpu_hours == pytest.approx(90 * 4 * a_video, abs=0.01)
    assert rows["evaluation"].estimate.gpu_hours == pytest.approx(10 * 2 * 2 * a_video, abs=0.01)
    assert rows["finetune"].estimate.gpu_hours == pytest.approx(gpu_hours(network.training_flops(config)), abs=0.01)
    assert rows["finetune"].estimate.seconds == pytest.approx(gpu_hours(network.training_flops(config)) * 3600, abs=1)
    assert rows["candidates"].estimate.seconds == pytest.approx(90 * 4 * a_video * 3600 / 8, abs=0.1)
    assert {row.estimate.basis for row in rows.values()} == {None, "formula"}


def test_processes_share_the_training(tmp_path: Path) -> None:
    def training(processes: int) -> Estimate:
        plan = wan_plan(tmp_path, "alignment.accumulation=1", f"execution.train_processes={processes}")
        return next(row.estimate for row in plan.stages if row.name == "finetune")

    one, four = training(1), training(4)
    assert one.seconds is not None and four.seconds == pytest.approx(one.seconds / 4, abs=0.1)
    assert four.gpu_hours == one.gpu_hours


def test_references_cost_a_forward_pass_for_each_draw(tmp_path: Path) -> None:
    rows = {row.name: row for row in wan_plan(tmp_path).stages}
    config = wan_config()
    network = network_of(config)
    draws = config.alignment.steps * config.alignment.batch_size
    expected = gpu_hours(draws * network.forward_flops(config))
    assert rows["references"].estimate.gpu_hours == pytest.approx(expected, abs=0.01)


def test_references_are_counted_where_the_samples_are_known_and_not_yet_packed(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", 10)
    run_fake(fake_config(tmp_path), Scope(last="selection"))
    row = plan(tmp_path)["references"]
    assert (row.compute, row.uncounted) == (0, 1)


def test_a_stage_that_runs_no_model_has_no_gpu_hours(tmp_path: Path) -> None:
    estimates = {row.name: row.estimate for row in wan_plan(tmp_path).stages}
    assert [name for name, estimate in estimates.items() if estimate.gpu_hours is None] == [
        "clips",
        "poses",
        "scores",
        "selection",
        "shards",
    ]


def test_the_formula_gives_way_to_what_was_measured_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "Wan2.1-VACE-14B-diffusers"
    (folder / "model").rename(weights)
    store = Store(folder / "store")
    measured = plan_run(store, wan_config(f"candidates.model.path={weights}"), STAGES, FAKES, clips=100)
    assert {row.name: row.estimate.basis for row in measured.stages}["candidates"] == "measured"
    (weights / "weights").write_bytes(b"other weights")
    other = plan_run(store, wan_config(f"candidates.model.path={weights}"), STAGES, FAKES, clips=100)
    assert {row.name: row.estimate.basis for row in other.stages}["candidates"] == "formula"


def test_a_plan_without_weights_says_so_and_goes_on(folder: Path) -> None:
    remembered(folder)
    config = fake_config(folder, candidates__model={"path": "Wan-AI/Wan2.1-VACE-14B-diffusers", "dtype": "float32"})
    found = plan_run(Store(folder / "store"), config, STAGES, WITHOUT_WEIGHTS)
    rows = {row.name: row for row in found.stages}
    assert rows["clips"].compute == rows["poses"].compute == 0
    assert list(rows["candidates"].why) == ["the weights are not here"]
    note = found.notes[-1]
    assert note.startswith(
        "the model Wan-AI/Wan2.1-VACE-14B-diffusers is not on this machine: get it with `hf download"
    )


def test_results_of_other_library_versions_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = provenance()
    config = fake_config(folder)
    assert plan_run(Store(folder / "store"), config, STAGES, FAKES).drift == {}
    monkeypatch.setattr(plan_module, "provenance", lambda: here | {"torch": "99.0", "kernel": "new"})
    found = plan_run(Store(folder / "store"), config, STAGES, FAKES)
    cached = sum(row.cached for row in found.stages)
    assert found.drift == {f"torch: {here['torch']} -> 99.0": cached}
    assert f"{cached} cached results were made with another torch: {here['torch']} -> 99.0" in plan_text(
        found, config.execution
    )


def test_results_of_another_way_of_sampling_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeModel, "how", {"attention": "native", "compiled": "blocks"})
    changed = {"candidates__seed": 7, "execution__compile": True}
    run_fake(fake_config(folder, **changed), Scope(last="candidates"))
    store = Store(folder / "store")
    cached = len(list(store.actions.keys("candidates"))) // 2
    assert plan_run(store, fake_config(folder, **changed), STAGES, FAKES).drift == {}
    plain = fake_config(folder, candidates__seed=7)
    assert plan_run(store, plain, STAGES, FAKES).drift == {"execution.compile: True -> False": cached}


def test_the_table_marks_what_is_by_formula_and_adds_it_up(tmp_path: Path) -> None:
    config = wan_config("execution.gpus=8")
    lines = plan_text(wan_plan(tmp_path, "execution.gpus=8"), config.execution).splitlines()
    assert lines[0].split() == ["stage", "items", "cached", "compute", "time", "GPU-hours", "disk", "why"]
    assert lines[3].split()[:8] == ["candidates", "90", "0", "90", "7.8", "h", "~", "62.2"]
    assert lines[10].split() == ["total", "56.4", "h", "129.0", "and", "what", "is", "not", "known", "yet", "(?)"]
    assert lines[11].startswith("~ by formula, at an assumed 350 TF/s per GPU")


def test_a_plan_says_that_each_file_counts_as_a_performer(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos" / "ann", 2)
    store = Store(tmp_path / "store")
    split, note = plan_run(store, fake_config(tmp_path), STAGES, FAKES).notes
    assert note.startswith("note: each of the 2 videos counts as another performer")
    assert re.fullmatch(r"note: held out to judge on: \d of 2 performers, \d of 2 videos", split)
    [split] = plan_run(store, fake_config(tmp_path, clips__group_by="folder"), STAGES, FAKES).notes
    assert re.fullmatch(r"note: held out to judge on: \d of 1 performers( \(videos\))?, \d of 2 videos", split)
