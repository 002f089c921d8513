"""`ipa animate` with several LoRAs, own sampler settings, and a whole driving video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from flows.cli import animate
from flows.engine.components import Components
from ipa_core.models import LORA_FILE
from ipa_core.video import decode_video, encode_png
from tests.fakes import fake_config, fake_extractor, write_video
from tests.flows.test_cli import call
from tests.tiny_model import FRAMES, HEIGHT, write_tiny_pipeline

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("model"))


@pytest.fixture
def here(model: Path, tmp_path: Path, monkeypatch: Patch) -> Path:
    """The working directory, with picture, video of 21 frames, config and two LoRAs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(animate, "components", lambda: Components(pose_extractor=fake_extractor))  # type: ignore[arg-type]
    size = {"clips__frames": FRAMES, "clips__width": HEIGHT, "clips__height": HEIGHT, "clips__sources": ["d.mp4"]}
    config = fake_config(tmp_path, candidates__model={"path": str(model), "dtype": "float32"}, **size)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    write_video(tmp_path / "d.mp4", 1, frames=21, size=HEIGHT)
    (tmp_path / "me.png").write_bytes(encode_png(decode_video(tmp_path / "d.mp4")[0]))
    for number in (1, 2):
        (tmp_path / f"lora{number}").mkdir()
        (tmp_path / f"lora{number}" / LORA_FILE).write_bytes(lora(number))
    return tmp_path


def lora(seed: int, inputs: int = 48) -> bytes:
    """Of one layer, of rank ``seed``."""
    source = torch.Generator().manual_seed(seed)
    layer = "transformer.blocks.0.attn1.to_q"
    return safetensors.torch.save(
        {
            f"{layer}.lora_A.weight": torch.randn(seed, inputs, generator=source),
            f"{layer}.lora_B.weight": torch.randn(48, seed, generator=source),
            f"{layer}.alpha": torch.tensor(float(seed)),
        }
    )


def made(monkeypatch: Patch, capsys: Capture, *options: str) -> np.ndarray:
    told = ("--reference", "me.png", "--driving", "d.mp4", "--output", "out.mp4", "--config", "run.yaml")
    code, _, err = call(monkeypatch, capsys, "animate", *told, *options)
    assert code == 0, err
    return decode_video(Path("out.mp4"))


@pytest.mark.usefixtures("here")
def test_loras_add_up_with_their_weights(monkeypatch: Patch, capsys: Capture) -> None:
    def video(*loras: str) -> np.ndarray:
        return made(monkeypatch, capsys, *(part for one in loras for part in ("--lora", one)))

    none, both = video(), video("lora1", "lora2:0.5")
    assert np.array_equal(video("lora1:0", "lora2:0"), none)
    assert not np.array_equal(both, none)
    assert np.array_equal(both, video("lora2:0.5", "lora1:1.0"))
    assert not np.array_equal(both, video("lora1", "lora2:1.0"))


@pytest.mark.usefixtures("here")
def test_a_whole_video_keeps_all_its_frames(monkeypatch: Patch, capsys: Capture) -> None:
    first, whole = made(monkeypatch, capsys), made(monkeypatch, capsys, "--whole")
    assert (len(first), len(whole)) == (FRAMES, 21)
    assert np.abs(whole[: FRAMES - 2].astype(int) - first[: FRAMES - 2]).mean() < 3
    assert len(made(monkeypatch, capsys, "--whole", "--overlap", "1")) == 21


@pytest.mark.usefixtures("here")
def test_a_video_with_fewer_frames_than_its_header_tells_fills_whole_segments(
    monkeypatch: Patch, capsys: Capture
) -> None:
    told = animate.probe(Path("d.mp4"))
    assert told.duration
    monkeypatch.setattr(animate, "probe", lambda path: replace(told, duration=told.duration * 23 / 21))

    assert len(made(monkeypatch, capsys, "--whole", "--overlap", "1")) == 17


@pytest.mark.usefixtures("here")
def test_the_sampler_has_its_own_settings(monkeypatch: Patch, capsys: Capture) -> None:
    usual, changed = made(monkeypatch, capsys), made(monkeypatch, capsys, "--steps", "3", "--guidance", "2")
    assert not np.array_equal(usual, changed)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--lora", "lora1:much"), "--lora lora1:much: 'much' is no weight; write FOLDER:WEIGHT, such as lora:0.8"),
        (("--lora", "lora1:nan"), "--lora lora1:nan: 'nan' is no weight; write FOLDER:WEIGHT, such as lora:0.8"),
        (("--lora", "nowhere:1"), "--lora nowhere: there is no nowhere; name a LoRA folder"),
        (("--lora", "other"), "--lora: the LoRA of blocks.0.attn1.to_q has the shapes (48, 1) and (1, 7)"),
        (("--whole", "--overlap", "4"), "--overlap must be 1 or 5 and less than clips.frames (9), got 4"),
    ],
    ids=["weight", "no number", "missing", "other model", "overlap"],
)
def test_what_is_wrong_is_said_before_any_work(
    options: tuple[str, ...], said: str, here: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    (here / "other").mkdir()
    (here / "other" / LORA_FILE).write_bytes(lora(1, inputs=7))
    told = ("--reference", "me.png", "--driving", "d.mp4", "--output", "out.mp4", "--config", "run.yaml")
    code, _, err = call(monkeypatch, capsys, "animate", *told, *options)

    assert (code, err.startswith(f"ipa: {said}")) == (1, True), err
    assert not (here / "out.mp4").exists()


@pytest.mark.usefixtures("here")
def test_it_moves_with_the_references_proportions(monkeypatch: Patch, capsys: Capture) -> None:
    """The fake person has all body points in one place: there is no bone to measure, which is said."""
    told = ("--reference", "me.png", "--driving", "d.mp4", "--output", "out.mp4", "--config", "run.yaml")
    code, _, err = call(monkeypatch, capsys, "animate", *told, "--retarget")
    assert code == 1
    assert err.splitlines()[-1].startswith("ipa: --retarget: me.png can't be used: the reference shows no bone")
