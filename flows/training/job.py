"""What a training process is told, and the names of what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ipa_core.config import Config, RunConfig
from ipa_core.models import LORA_FILE as LORA

__all__ = ["LORA", "RECORD", "Job", "function_name"]

RECORD: Final = "record.json"


class Job(Config):
    """What the training process is told, as a file."""

    config: RunConfig
    key: str
    """Of the action: where its checkpoints and its TensorBoard log are kept."""
    store: str
    shards: tuple[Path, ...]
    references: Path
    """A ``ReferenceTable`` as JSON; empty where the method has no reference."""
    animation_model: str
    """``module:function``, see `flows.engine.components.Components`."""
    output: Path
    """Where the record and the files of the result are left. The folder around it is for the launch."""


def function_name(function: Callable[..., Any]) -> str:
    """``module:function``, by which another process finds it. Raises ``ValueError`` where none could."""
    name = f"{function.__module__}:{function.__qualname__}"
    if function.__module__ == "__main__" or "<" in name:
        raise ValueError(f"{name} can't be found by the training process: make it a function of an importable module")
    return name
