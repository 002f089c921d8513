"""LoRA files that a config or a command names, and those that are added to the model that generates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipa_core.config import CandidatesConfig, ConfigError, LoraFile
from ipa_core.models import LORA_FILE
from storage import Action

if TYPE_CHECKING:
    from flows.engine.components import Components
    from flows.engine.inputs import RunInputs

Added = tuple[tuple[str, float], ...]
"""LoRAs that are added to a model: digest and weight of each."""
_INPUT: Final = "added LoRA {}"
"""Name of an added LoRA among the inputs of an action, from 1. The action's config has the weights as `loras`."""


def lora_path(path: Path) -> Path:
    """Return the file of a LoRA's folder, or the file itself."""
    return path / LORA_FILE if path.is_dir() else path


def lora_bytes(path: Path, named: str) -> bytes:
    """Read a LoRA's file or folder. Raises ``ConfigError``, which begins with ``named``, when it holds no LoRA."""
    from safetensors import SafetensorError, safe_open

    file = lora_path(path)
    try:
        data = file.read_bytes()
        with safe_open(file, framework="numpy") as opened:
            names = list(opened.keys())
    except OSError as error:
        about = f"there is no {file.name}" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(f"{named}: {about}; name a LoRA folder, such as a run's `lora`") from None
    except SafetensorError:
        names = []
    # diffusers and ComfyUI write .lora_A, kohya .lora_down.
    if not any(".lora_" in name for name in names):
        raise ConfigError(f"{named}: {file.name} holds no LoRA; name a LoRA folder, such as a run's `lora`")
    return data


def check_added(files: Sequence[LoraFile], field: str, config: CandidatesConfig, components: Components) -> None:
    """Raise ``ConfigError`` when one of a config's added LoRAs can't be read, or does not fit the model, and
    ``MissingModel`` when the model is not here."""
    for one in files:
        data = lora_bytes(Path(one.path), f"{field}: {one.path}")
        components.model_folder(config.model)
        try:
            # With another one, as the trained LoRA will be: some files (DoRA) are of use alone only.
            components.combined_lora(config.model, [(data, one.weight), (data, 0.0)])
        except ConfigError as error:
            raise ConfigError(f"{field}: {one.path}: {error}") from None


def added_inputs(files: Sequence[LoraFile], inputs: RunInputs) -> dict[str, str]:
    """Return the inputs of an action that stand for added LoRAs: their digests by name."""
    return {_INPUT.format(number): inputs.file(lora_path(Path(one.path))) for number, one in enumerate(files, 1)}


def added_weights(files: Sequence[LoraFile]) -> dict[str, list[float]]:
    """Return the settings of an action that stand for added LoRAs."""
    return {"loras": [one.weight for one in files]} if files else {}


def added_to(action: Action) -> Added:
    """Return the LoRAs that an action adds to its model."""
    return tuple(
        (action.inputs[_INPUT.format(number)], weight)
        for number, weight in enumerate(action.config.get("loras", ()), 1)
    )


def in_words(files: Sequence[LoraFile]) -> str:
    """Name LoRAs for people: ``steps.safetensors at 0.8``."""
    return " and ".join(f"{Path(one.path).name} at {one.weight:g}" for one in files)
