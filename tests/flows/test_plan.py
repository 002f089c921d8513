"""`ipa plan` says what would be computed and why, and computes nothing."""

from __future__ import annotations

from pathlib import Path

from flows.plan import StagePlan, plan_run
from flows.runs import RunFolder
from flows.stage import STAGE_NAMES
from flows.stages.finetune import LORA
from storage import Store
from storage.registry import Registry
from tests.fakes import FAKES, fake_config, write_video, write_videos
from tests.flows.conftest import VIDEOS, Done, run_fake
from tests.storage.test_registry import registered


def plan(folder: Path, **changes: object) -> dict[str, StagePlan]:
    config = fake_config(folder, **changes)
    store = Store(folder / "store")
    return {row.name: row for row in plan_run(store, config, FAKES).stages}


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
