"""Animation models for the training process: named in a job, and loaded there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ipa_core.config import Execution, ModelConfig
from ipa_core.models.wan_vace.model import WanVACEModel

KILL = "kill"
"""A file of this name in the model's folder kills one training process, once."""
CALLS_BEFORE = 8
"""Predictions before that: two a step, of reference and model."""


class MortalModel(WanVACEModel):
    def __init__(self, pipeline: Any, device: torch.device | None = None) -> None:
        super().__init__(pipeline, device)
        self.kill: Path | None = None
        self.calls = 0

    def velocity(self, latents: Tensor, t: Tensor, streams: Mapping[str, Tensor]) -> Tensor:
        self.calls += 1
        if self.kill is not None and self.calls > CALLS_BEFORE:
            try:
                self.kill.unlink()
            except FileNotFoundError:
                self.kill = None
            else:
                print("something is wrong here", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        return super().velocity(latents, t, streams)


class SlowModel(WanVACEModel):
    def velocity(self, latents: Tensor, t: Tensor, streams: Mapping[str, Tensor]) -> Tensor:
        time.sleep(1)
        return super().velocity(latents, t, streams)


def mortal(config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool) -> MortalModel:
    model = MortalModel.load(Path(config.path), dtype="float32", device="cpu", text_encoder=text_encoder)
    model.kill = Path(config.path) / KILL
    return model


def slow(config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool) -> SlowModel:
    return SlowModel.load(Path(config.path), dtype="float32", device="cpu", text_encoder=text_encoder)


def absent(config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool) -> WanVACEModel:
    raise RuntimeError("the weights are\nnot there")
