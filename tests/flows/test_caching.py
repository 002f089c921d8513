"""What is computed again, and what is not."""

from __future__ import annotations

import os
from pathlib import Path

from flows.engine.stage import blob
from flows.engine.walk import Scope
from flows.stages.evaluation import clip_results
from flows.stages.finetune import LORA
from tests.fakes import fake_config, write_video
from tests.flows.conftest import VIDEOS, Done, run_fake


def evaluated(done: Done, model: str) -> int:
    """Items of one model that were computed in the evaluation."""
    return sum(
        entry.status == "computed" and ("lora" in entry.item.action.inputs) == (model == "aligned")
        for entry in done.results["evaluation"]
        if "clip" in entry.item.action.inputs
    )


def test_second_run_computes_nothing(folder: Path) -> None:
    assert run_fake(fake_config(folder)).computed() == {}


def test_touched_and_renamed_videos_are_known_by_their_bytes(folder: Path) -> None:
    video = folder / "videos" / "video-0003.mp4"
    os.utime(video, (1, 1))
    video.rename(folder / "videos" / "renamed.mp4")
    assert run_fake(fake_config(folder)).computed() == {}


def test_a_changed_video_is_cut_and_posed_again_and_no_other_is(folder: Path) -> None:
    write_video(folder / "videos" / "video-0003.mp4", number=99)
    done = run_fake(fake_config(folder))
    assert {stage: done.computed()[stage] for stage in ("clips", "poses")} == {"clips": 1, "poses": 1}


def test_beta_changes_the_training_and_the_aligned_half_of_the_evaluation(folder: Path) -> None:
    done = run_fake(fake_config(folder, alignment__beta=500.0))
    assert set(done.computed()) == {"finetune", "evaluation"}
    assert evaluated(done, "base") == 0
    assert evaluated(done, "aligned") > 0


def test_settings_that_say_how_change_nothing(folder: Path) -> None:
    config = fake_config(folder, execution__workers=2, execution__batch_minutes=1.0, alignment__checkpoint_every=3)
    assert run_fake(config).computed() == {}


def test_a_limit_of_clips_keeps_some_of_what_was_evaluated_and_names_do_not_choose(folder: Path) -> None:
    def videos(most: int) -> set[str]:
        done = run_fake(fake_config(folder, evaluation__max_clips=most))
        assert done.computed().get("evaluation", 0) <= 1  # The comparison of so many.
        return {row.clip_id for row in clip_results(done.view)}

    two = videos(2)
    assert len(two) == 2
    for number, path in enumerate(sorted((folder / "videos").iterdir(), reverse=True)):
        path.rename(path.with_name(f"renamed-{number}.mp4"))
    assert videos(2) == two
    assert two < videos(3)


def test_threshold_changes_selection_and_what_follows(folder: Path) -> None:
    done = run_fake(fake_config(folder, selection__threshold=0.12))
    # The same candidates are kept: nothing after the selection changes.
    assert done.computed() == {"selection": 1}


def test_refresh_computes_a_stage_again_and_gives_the_same(folder: Path) -> None:
    before = run_fake(fake_config(folder)).output("finetune", LORA)
    done = run_fake(fake_config(folder), Scope(refresh=frozenset({"poses", "finetune"})))
    assert done.computed() == {"poses": VIDEOS, "finetune": 1}
    assert done.output("finetune", LORA) == before


def test_missing_bytes_are_made_again_when_something_needs_them(folder: Path) -> None:
    done = run_fake(fake_config(folder))
    result = done.results.done("candidates")[0][1]
    done.store.objects.delete(blob(result, "conditioning"))
    again = run_fake(fake_config(folder, shards__samples_per_shard=1))
    assert again.computed()["candidates"] == 1
    assert blob(again.results.done("candidates")[0][1], "conditioning") == blob(result, "conditioning")


def test_missing_bytes_that_nothing_needs_stay_missing(folder: Path) -> None:
    done = run_fake(fake_config(folder))
    done.store.objects.delete(blob(done.results.done("candidates")[0][1], "0.latents"))
    assert run_fake(fake_config(folder)).computed() == {}


def test_damaged_bytes_are_found_when_they_are_read_and_made_again(folder: Path) -> None:
    done = run_fake(fake_config(folder))
    for _, result in done.results.done("poses"):
        path = done.store.objects.path(blob(result, "pose"))
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    # Another number of candidates reads every training clip's pose again, and the LoRA it leads to the held-out ones'.
    again = run_fake(fake_config(folder, candidates__per_clip=3))
    assert again.computed()["poses"] == VIDEOS
    assert [entry.status for entries in again.results.values() for entry in entries].count("failed") == 0
