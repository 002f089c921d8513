"""Pretraining from ready-made shards: resumes exactly, and ends as a pipeline folder that loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from diffusers import WanVACEPipeline

from ipa_core.config import ConfigError
from ipa_core.people.dataset import RenderedSet
from ipa_core.pretraining.config import (
    CodecConfig,
    FlowModelConfig,
    FlowTrainingConfig,
    PretrainConfig,
    TrainingSetConfig,
    load_pretrain_config,
)
from ipa_core.pretraining.pretrain import pretrain, shooting

CONFIG = PretrainConfig(
    data=TrainingSetConfig(clips=12, size=48),
    codec=CodecConfig(clips=12, channels=8, encoder_dim=24, decoder_dim=24, steps=1, batch_size=1, crop=16),
    model=FlowModelConfig(heads=2, head_dim=24, layers=2, vace_layers=(0,), ffn_dim=64, text_dim=16),
    training=FlowTrainingConfig(steps=2, batch_size=2, checkpoint_every=1),
)


@pytest.fixture
def workdir(tmp_path: Path, rendered_set: RenderedSet) -> Path:
    """A work folder whose clips are rendered already, so that no renderer is needed."""
    data = CONFIG.data
    path = tmp_path / "clips" / shooting(CONFIG, data.seed).shard(0, 12)
    path.parent.mkdir()
    tensors = {name: getattr(rendered_set, name) for name in ("frames", "keypoints", "confidence", "person")}
    safetensors.numpy.save_file(tensors | {"hand_mask": rendered_set.hand_mask.astype(np.uint8)}, path)
    return tmp_path


def _with_steps(steps: int) -> PretrainConfig:
    # decay = 0 would make the rate depend on nothing; here it is constant up to the last step of either length
    training = CONFIG.training.model_copy(update={"steps": steps, "decay": 0.0})
    return CONFIG.model_copy(update={"training": training})


def test_resuming_gives_the_same_weights(workdir: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    straight = pretrain(_with_steps(2), workdir, workdir / "straight")
    checkpoint = next(workdir.glob("flow-*.safetensors"))
    checkpoint.unlink()
    pretrain(_with_steps(1), workdir, workdir / "first")
    assert safetensors.numpy.load_file(checkpoint)["step"] == 1
    resumed = pretrain(_with_steps(2), workdir, workdir / "resumed")

    ours, theirs = (WanVACEPipeline.from_pretrained(report.pipeline) for report in (resumed, straight))
    for name, weight in ours.transformer.state_dict().items():
        assert torch.equal(weight, theirs.transformer.state_dict()[name]), name
    assert straight.flow_steps == 2
    assert straight.parameters == sum(weight.numel() for weight in theirs.transformer.parameters())


def test_the_committed_config_is_the_default() -> None:
    committed = Path(__file__).parents[2] / "configs" / "pretrain.yaml"
    assert load_pretrain_config(committed) == PretrainConfig()


def test_a_wrong_config_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "pretrain.yaml"
    path.write_text("data: {frames: 6}\ntraining: {step: 1}\n")
    with pytest.raises(ConfigError, match=r"training\.step"):
        load_pretrain_config(path)
