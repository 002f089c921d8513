"""What the stages that compute with the model give for inputs that are the same on every machine, within a tolerance.

`test_golden.py` compares all digits, but only where this machine's encoder gives the golden file's bytes. Here nothing
depends on an encoder's bytes, so a loss without its factor fails on every machine. When one of these fails, raise the
VERSION of its stage and write the new numbers here.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from flows.engine.stage import Item
from flows.engine.worker import Worker
from flows.stages.evaluation import Evaluation
from flows.stages.finetune import Finetune
from flows.stages.references import References
from ipa_core.config import PosesConfig
from ipa_core.evaluation import ClipResult, VideoMetrics
from ipa_core.models.latents import latents_to_bytes
from ipa_core.records import HandScore, PreferenceSample, ScoreComponents
from ipa_core.video import encode_png
from storage import Action, Store
from storage.shards import ShardWriter
from tests.fake_model import CHANNELS, FakeModel
from tests.fakes import FAKES, FRAMES, SIZE, FakeExtractor, fake_config
from tests.flows.test_old_store import ARCHIVE

MODEL = "0" * 64
CLOSE = 1e-3
"""Relative; low bits differ from processor to processor."""


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    config = fake_config(tmp_path, alignment__learning_rate=0.01)
    worker = Worker(Store(tmp_path / "store"), config, FAKES)
    worker.scratch = tmp_path
    return worker


def inputs(store: Store) -> dict[str, str]:
    """A clip, its reference, pose, conditioning and the latents of one candidate, put into the store."""
    rng = np.random.default_rng(0)
    with tarfile.open(ARCHIVE) as archive:
        member = archive.extractfile("videos/video-0000.mp4")
        assert member is not None
        video = member.read()
    control = rng.integers(0, 255, (FRAMES, SIZE, SIZE, 3), np.uint8)
    reference = rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8)
    latents = torch.from_numpy(rng.standard_normal((CHANNELS, FRAMES + 1, SIZE // 8, SIZE // 8), np.float32))
    conditioning = FakeModel(None).encode_conditioning(control, reference, "a person", None)
    pose = FakeExtractor(PosesConfig()).extract(np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8))
    contents = {
        "clip": video,
        "reference": encode_png(reference),
        "pose": pose.to_bytes(),
        "latents": latents_to_bytes(latents),
        "conditioning": conditioning.to_bytes(),
    }
    return {name: store.objects.put(content) for name, content in contents.items()}


def test_reference_errors(worker: Worker) -> None:
    there = inputs(worker.store)
    parts = {name: there[name] for name in ("latents", "conditioning", "pose")}
    action = Action("references", 1, {"epochs": [0, 3]}, {"model": MODEL, **parts})
    record = References().compute(Item("sample", action), worker).record_json()
    assert record["elements"] == 384
    assert record["everywhere"] == pytest.approx([752.457, 765.046, 894.558], rel=CLOSE)
    assert record["on_hands"] == pytest.approx([304.911, 286.781, 431.288], rel=CLOSE)


ERRORS = [9.68023, 12.8608, 10.8983, 11.0185]


@pytest.mark.parametrize(("method", "losses"), [("ipa", [0.693147, 0.676766, 0.679006, 0.402352]), ("sft", ERRORS)])
def test_training(method: str, losses: list[float], worker: Worker, tmp_path: Path) -> None:
    worker.config = worker.config.model_copy(
        update={"alignment": worker.config.alignment.model_copy(update={"method": method})}
    )
    there, objects = inputs(worker.store), worker.store.objects
    sample = PreferenceSample(
        key="sample",
        clip_id="clip",
        seed=0,
        score=0.5,
        prompt="a person",
        video=there["clip"],
        latents=there["latents"],
        conditioning=there["conditioning"],
        pose=there["pose"],
        candidate_action=MODEL,
        score_action=MODEL,
    )
    files = {f"{name}.safetensors": objects.get(there[name]) for name in ("latents", "conditioning", "pose")}
    files |= {"mp4": objects.get(there["clip"]), "json": sample.model_dump_json().encode()}
    with ShardWriter(tmp_path / "shards", 1) as writer:
        writer.write("sample", files, {})
    shard = objects.put_file(tmp_path / "shards" / "000000.tar")
    item = Item("LoRA", Action("finetune", 2, {}, {"model": MODEL, "000000.tar": shard}))
    output = Finetune().compute(item, worker)
    history = json.loads(Path(output.objects["training.json"]).read_text())
    assert [step["loss"] for step in history] == pytest.approx(losses, rel=CLOSE)
    assert [step["model_error"] for step in history] == pytest.approx(ERRORS, rel=CLOSE)
    assert output.record_json()["loss"] == history[-1]["loss"]


def test_a_held_out_video(worker: Worker) -> None:
    there = inputs(worker.store)
    parts = {name: there[name] for name in ("clip", "reference", "pose")}
    action = Action(
        "evaluation",
        4,
        {"clip_id": "clip", "prompt": "a person", "per_clip": 1, "scores": {}},
        {"model": MODEL, **parts},
    )
    [found] = Evaluation().compute(Item("clip base", action), worker).record_json()["results"]
    expected = {"psnr": 7.390606, "ssim": 0.016068, "psnr_hand": 6.952359, "ssim_hand": 0.012396}
    assert found["metrics"] == pytest.approx(expected, rel=CLOSE)
    assert found["score"]["score"] == pytest.approx(0.53716, rel=CLOSE)


def test_a_comparison(worker: Worker) -> None:
    rng = np.random.default_rng(0)
    rows = tuple(
        judged(clip, model, *rng.random(3) + (0.3 if model == "aligned" else 0.0))
        for clip in range(8)
        for model in ("base", "aligned")
    )
    table = worker.store.objects.put(TypeAdapter(tuple[ClipResult, ...]).dump_json(rows))
    found = Evaluation().compute(Item("comparison", Action("evaluation", 4, {}, {"results": table})), worker)
    metrics = {metric["name"]: metric for metric in found.record_json()["metrics"]}
    hand_score, psnr = metrics["hand_score"], metrics["psnr"]
    assert (hand_score["difference"], hand_score["win_rate"]) == pytest.approx((0.227156, 0.75), rel=CLOSE)
    assert hand_score["difference_interval"] == pytest.approx({"low": -0.060916, "high": 0.488303}, rel=CLOSE)
    assert psnr["difference"] == pytest.approx(0.51462, rel=CLOSE)


def judged(clip: int, model: str, score: float, psnr: float, ssim: float) -> ClipResult:
    components = ScoreComponents(
        **dict.fromkeys(("confidence", "size", "pck", "error", "bone_consistency", "jitter", "sharpness"), score)
    )
    return ClipResult(
        clip_id=f"clip {clip}",
        seed=0,
        model=model,  # type: ignore[arg-type]
        metrics=VideoMetrics(psnr=20 + psnr, ssim=ssim, psnr_hand=15 + psnr, ssim_hand=ssim / 2),
        score=HandScore(score=score, unscorable=None, components=components, good_frames=score, hands=()),
        hands_found=1.0,
        drift=0.0,
    )
