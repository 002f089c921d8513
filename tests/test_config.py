"""What a config that can't be used says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ipa_core.config import ConfigError
from ipa_core.config_file import load_config

DEMO = Path(__file__).parents[1] / "configs" / "demo.yaml"


def test_a_batch_that_the_training_processes_can_not_share_is_said_before_any_work() -> None:
    message = r"accumulation times execution.train_processes, got 4, 2 and 3$"
    with pytest.raises(ConfigError, match=message):
        load_config(DEMO, ["alignment.accumulation=2", "execution.train_processes=3"])


def test_training_processes_that_share_the_batch_are_taken() -> None:
    config = load_config(DEMO, ["execution.train_processes=2", "execution.train_strategy=fsdp2"])
    assert config.execution.train_processes == 2


@pytest.mark.parametrize("value", [".nan", ".inf"])
@pytest.mark.parametrize("field", ["candidates.loras.0.weight", "candidates.shift", "alignment.beta"])
def test_a_number_that_is_not_finite_is_refused(field: str, value: str) -> None:
    told = f"[{{path: a.safetensors, weight: {value}}}]" if field.startswith("candidates.loras") else value
    with pytest.raises(ConfigError, match=rf"{re.escape(field)}: must be a finite number"):
        load_config(DEMO, [f"{field.partition('.0.')[0]}={told}"])
