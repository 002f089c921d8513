"""A model on a small hand bench."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from flows.cli.experiments import bench_table
from flows.experiments.hand_bench import run_bench
from flows.stages.finetune import LORA
from ipa_core.config import ConfigError, RunConfig
from ipa_core.keypoints import HANDS
from ipa_core.people.hand_bench import DIFFICULTIES, Truth, write_truth
from ipa_core.reporting.sheets import GAP, HEIGHT
from storage import Store
from storage.digest import digest_file
from tests.fakes import FAKES, FRAMES, SIZE, fake_config, write_video
from tests.flows.conftest import run_fake

CLIPS = {f"{kind}-{number:02d}": 2 * place + number for place, kind in enumerate(DIFFICULTIES) for number in range(2)}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Eight held-out videos whose upper half is hand, and one to train on."""
    folder = tmp_path_factory.mktemp("bench")
    truths = {}
    mask = np.zeros((FRAMES, SIZE, SIZE), bool)
    mask[:, : SIZE // 2] = True
    points = np.zeros((FRAMES, 133, 2), np.float32)
    for part in HANDS.values():
        points[:, part] = np.linspace(0, SIZE - 1, 21)[:, None]
    for name, number in CLIPS.items():
        path = folder / "videos" / f"{name}.mp4"
        write_video(path, number)
        truths[name] = Truth(points, np.ones((FRAMES, 133), np.float32), mask, digest_file(path))
    write_truth(folder, truths)
    write_video(folder / "videos" / "train-00.mp4", 100)
    rows = [*(f"{name}.mp4,held_out" for name in CLIPS), "train-00.mp4,train"]
    (folder / "metadata.csv").write_text("\n".join(["file,split", *rows]))
    return fake_config(folder, clips__metadata=str(folder / "metadata.csv"))


def store_of(config: RunConfig) -> Store:
    assert config.execution.store is not None
    return Store(config.execution.store)


def test_classes_and_all_of_the_base_alone(config: RunConfig) -> None:
    report, picture = run_bench(config, FAKES, None)
    assert [(row.difficulty, row.model, row.clips) for row in report.rows] == [
        *((kind, "base", 2) for kind in DIFFICULTIES),
        ("all", "base", 8),
    ]
    assert (report.gains, picture) == ({}, None)


def test_a_lora_is_compared_with_the_base(config: RunConfig) -> None:
    report, picture = run_bench(config, FAKES, b"an adapter")
    assert [(row.difficulty, row.model) for row in report.rows[:2]] == [("palm", "base"), ("palm", "with LoRA")]
    assert report.gains["psnr"].mean == pytest.approx(report.rows[-1].psnr - report.rows[-2].psnr, abs=1e-5)
    assert "psnr_hand" in bench_table(report)
    # Three rows; a frame and two hands of each class.
    assert picture is not None
    height, width = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert (height, width) == (3 * HEIGHT + 2 * GAP, 12 * HEIGHT + 11 * GAP)


def test_hand_numbers_are_over_the_exact_pixels(config: RunConfig) -> None:
    """The fake extractor finds hands in the middle; the truth is the upper half."""
    store = store_of(config)
    row = run_bench(config, FAKES, None)[0].rows[-1]
    results = [
        one.record["results"][0]["metrics"]
        for one in store.actions.all("evaluation")
        if "lora" not in one.action.inputs
    ]
    assert row.psnr == pytest.approx(np.mean([one["psnr"] for one in results]), abs=1e-5)
    assert row.psnr_hand != pytest.approx(np.mean([one["psnr_hand"] for one in results]), abs=1e-5)


def test_what_a_run_has_evaluated_is_not_computed_again(config: RunConfig) -> None:
    done = run_fake(config)
    lora = done.store.objects.get(done.output("finetune", LORA))
    before = len(list(done.store.actions.all("evaluation")))
    report, _ = run_bench(config, FAKES, lora)
    assert len(list(done.store.actions.all("evaluation"))) == before
    assert report.rows[-1].model == "with LoRA"


def test_a_changed_video_is_said(config: RunConfig, tmp_path: Path) -> None:
    path = Path(config.clips.sources[0]) / "palm-00.mp4"
    before = path.read_bytes()
    write_video(path, 50)
    try:
        with pytest.raises(ConfigError, match=r"palm-00\.mp4 #000 is no video of the hand bench, or was changed"):
            run_bench(config, FAKES, None)
    finally:
        path.write_bytes(before)


def test_a_folder_without_truth_is_no_bench(folder: Path) -> None:
    table = folder / "metadata.csv"
    table.write_text("file\na.mp4\n")
    with pytest.raises(ConfigError, match=r"holds no truth\.safetensors"):
        run_bench(fake_config(folder, clips__metadata=str(table)), FAKES, None)


def test_clips_cut_another_way_are_refused(config: RunConfig) -> None:
    clips = config.clips.model_copy(update={"width": 48, "height": 48})
    with pytest.raises(ConfigError, match=r"is of 5 whole frames of 32 x 32 pixels"):
        run_bench(config.model_copy(update={"clips": clips}), FAKES, None)


def test_work_for_others_is_refused(config: RunConfig) -> None:
    execution = config.execution.model_copy(update={"hand_over": "retrain/generate"})
    with pytest.raises(ConfigError, match=r"execution\.hand_over"):
        run_bench(config.model_copy(update={"execution": execution}), FAKES, None)


def test_clips_without_a_person_are_named(config: RunConfig) -> None:
    folder = Path(config.clips.sources[0])
    kept, away = folder / "fast-01.mp4", folder.parent / "fast-01.mp4"
    kept.rename(away)
    try:
        report, _ = run_bench(config, FAKES, None)
    finally:
        away.rename(kept)
    assert report.left_out == ("fast-01",)
    assert "fast-01" in bench_table(report)
