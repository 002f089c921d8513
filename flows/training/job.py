"""The job of a training process, and the names of the files that it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from flows.training.previews import Preview
from ipa_core.config import Config, RunConfig
from ipa_core.models import LORA_FILE as LORA

__all__ = ["LORA", "RECORD", "Job", "function_name"]

RECORD: Final = "record.json"


class Job(Config):
    """The job of a training process, passed as a file."""

    config: RunConfig
    key: str
    """Key of the action. It names the checkpoints and the TensorBoard log."""
    store: str
    shards: tuple[Path, ...]
    references: Path
    """A ``ReferenceTable`` as JSON, empty if the method needs no frozen model."""
    animation_model: str
    """``module:function``, see `flows.engine.components.Components`."""
    previews: tuple[Preview, ...] = ()
    """Clips to show every ``alignment.preview_every`` steps."""
    output: Path
    """Folder for the record and the files of the result. The folder around it is for the launch."""


def function_name(function: Callable[..., Any]) -> str:
    """Return ``module:function``, by which another process finds it. Raises ``ValueError`` when no process could."""
    name = f"{function.__module__}:{function.__qualname__}"
    if function.__module__ == "__main__" or "<" in name:
        raise ValueError(f"{name} can't be found by the training process: make it a function of an importable module")
    return name
