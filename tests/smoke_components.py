"""Components for deployments/smoke.sh: fakes whose faults and whose gain are decided from outside.

`IPA_SMOKE_FAULT` names a file: while it is there, the generator raises on every batch but the first. Aligned
hands are better than those of the base model exactly when the LoRA has rank 4.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from ipa_core.config import Execution, ModelConfig
from tests.fake_model import FakeModel
from tests.fakes import FAKES

GOOD_RANK = 4


class SmokeModel(FakeModel):
    def __init__(self, lora: bytes | None) -> None:
        super().__init__(lora)
        self._generated = 0
        self._presence = 0.45 if lora is None else 0.7 if rank(lora) == GOOD_RANK else 0.2

    def decode(self, latents: Tensor) -> np.ndarray:
        self._generated += 1
        if self._generated > 1 and Path(os.environ["IPA_SMOKE_FAULT"]).exists():
            raise RuntimeError("the generator was told to fail")
        time.sleep(float(os.environ.get("IPA_SMOKE_SECONDS", "0")))
        videos = super().decode(latents).astype(float)
        means = videos.mean(axis=(1, 2, 3, 4), keepdims=True)
        # The fake extractor reads a hand's presence off a frame's brightness, and starts anew every 25.5 levels: far
        # from there, so that no frame that is a little brighter than its video falls to the bottom.
        bright = 25.5 * (4 + self._presence + means / 25.5 % 0.1)
        return np.clip(bright + (videos - means) / 8, 0, 255).astype(np.uint8)


def rank(lora: bytes) -> int:
    """Of the first matrix A in a LoRA file, ``[rank, features]``."""
    header = json.loads(lora[8 : 8 + int.from_bytes(lora[:8], "little")])
    return int(next(about["shape"][0] for name, about in header.items() if "lora_A" in name))


def smoke_model(config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool) -> SmokeModel:
    return SmokeModel(lora)


COMPONENTS = replace(FAKES, animation_model=smoke_model)  # type: ignore[arg-type]
