"""`candidates.model.quantization`: its keys, what is refused before any work, and who gets a model with all bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from flows.engine import components
from flows.engine.components import check_quantization
from flows.engine.worker import Worker
from ipa_core.config import ConfigError, Execution, ModelConfig
from storage import Store
from tests.fakes import FAKES, fake_config
from tests.flows.test_added_loras import told

MODEL = {"path": "owner/model"}


def test_it_is_in_the_keys_of_what_it_samples(tmp_path: Path) -> None:
    plain, off, int8, fp8 = (
        told(tmp_path, name, candidates={"model": MODEL | own})
        for name, own in (
            ("plain", {}),
            ("off", {"quantization": None}),
            ("int8", {"quantization": "int8"}),
            ("fp8", {"quantization": "fp8"}),
        )
    )
    assert off == plain
    for stage, name in ("candidates", "video-0.mp4 #000"), ("evaluation", "video-7.mp4 #000 base"):
        assert len({one[stage][name] for one in (plain, int8, fp8)}) == 3


def test_it_needs_bfloat16() -> None:
    with pytest.raises(ValidationError, match="quantization: int8 needs dtype: bfloat16, got float32"):
        ModelConfig(path="any", dtype="float32", quantization="int8")


def test_a_missing_torchao_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"int8 needs the extra \[quantized\]: pip install"):
        check_quantization(ModelConfig(path="any", quantization="int8"), Execution())
    check_quantization(ModelConfig(path="any"), Execution())


def test_a_card_without_8_bit_floats_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "find_spec", lambda name: name)
    monkeypatch.setattr(components, "device", lambda execution: "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    with pytest.raises(ConfigError, match=r"fp8 needs a GPU of compute capability 8.9 .* this one has 8.6; take int8"):
        check_quantization(ModelConfig(path="any", quantization="fp8"), Execution())
    check_quantization(ModelConfig(path="any", quantization="int8"), Execution())


def test_the_reference_errors_come_from_all_bits_and_the_candidates_do_not(tmp_path: Path) -> None:
    asked: list[Any] = []

    def model(config: ModelConfig, *_: Any) -> Any:
        asked.append(config.quantization)
        return object()

    own = {"path": "any", "quantization": "int8"}
    config = fake_config(tmp_path, candidates__model=own)
    worker = Worker(Store(tmp_path / "store"), config, replace(FAKES, animation_model=model))
    sampled = worker.model()
    assert worker.model() is sampled
    assert worker.model(all_bits=True) is not sampled
    assert asked == ["int8", None]
