"""Build the backends that a config names. Each is imported inside its arm, so the others stay unloaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Final, cast

from flows.engine.helper_processes import HelperProcesses
from ipa_core.config import (
    NEWEST_SCORE,
    AlignmentConfig,
    ConfigError,
    Execution,
    ModelConfig,
    PosesConfig,
    Quantization,
    ScoresConfig,
    ScoreVersion,
)
from ipa_core.pose import PoseExtractor

FP8: Final = (8, 9)
"""Least compute capability of a GPU that computes with 8-bit floats."""

if TYPE_CHECKING:
    from ipa_core.models.animation import AnimationModel
    from ipa_core.scoring import HandScorer, KeypointHandScorer
    from ipa_core.scoring.scorer import FingerJudge, Reward
    from ipa_core.scoring.vlm import VlmReward


def pose_extractor(config: PosesConfig) -> PoseExtractor:
    """Raises ``ConfigError`` when the backend's package or its model is missing."""
    match config.backend:
        case "mediapipe":
            from ipa_core.pose.mediapipe import MediaPipeExtractor

            return MediaPipeExtractor(config)
        case "ultralytics":
            _needs_extra("ultralytics", "ultralytics")
            from ipa_core.pose.ultralytics import UltralyticsExtractor

            return UltralyticsExtractor(config)
        case "dwpose":
            _needs_extra("dwpose", "rtmlib")
            from ipa_core.pose.dwpose import DWPoseExtractor

            return DWPoseExtractor(config)


def _needs_extra(extra: str, package: str) -> None:
    if find_spec(package) is None:
        raise ConfigError(f"the {extra} backend needs the extra [{extra}]: pip install 'ipa-pipeline[{extra}]'")


def hand_scorer(config: ScoresConfig, extractor: PoseExtractor) -> KeypointHandScorer:
    """Raises ``ConfigError`` when ``scores.model`` or ``scores.reward`` can't be used."""
    from ipa_core.scoring import KeypointHandScorer, Opinions, QualityModel

    files = score_files(config)
    try:
        model = QualityModel.load(Path(files["coefficients"]))
    except (OSError, ValueError) as error:
        raise ConfigError(f"scores.model: {error}; `ipa lab score fit` writes such files") from None
    if model.version != (config.version or NEWEST_SCORE):
        raise ConfigError(
            f"scores.model: {config.model} has coefficients of version {model.version} of the score, and version "
            f"{config.version or NEWEST_SCORE} is wanted; fit them again, or set scores.version"
        )
    fingers = finger_judge(Path(files["fingers"]), model.version) if config.fingers else None
    return KeypointHandScorer(extractor, config, Opinions(model, fingers, reward(config)))


def finger_judge(weights: Path, version: ScoreVersion) -> FingerJudge:
    from ipa_core.scoring.crops import placed, placed_by_box
    from ipa_core.scoring.finger_pairs import FingerPairInspector
    from ipa_core.scoring.fingers import FingerInspector

    if version == 1:
        return FingerInspector(weights)
    return FingerPairInspector(weights, placed_by_box if version == 2 else placed)


def score_files(config: ScoresConfig) -> dict[str, str]:
    """Return a hand score's files besides the pose backend's. Raises ``ConfigError`` when one is missing, and when
    ``scores.reward`` can't be loaded."""
    from ipa_core.scoring.quality import FINGER_WEIGHTS, PACKAGED

    version = config.version or NEWEST_SCORE
    files = {"coefficients": config.model or str(PACKAGED[version])}
    if not Path(files["coefficients"]).is_file():
        raise ConfigError(f"scores.model: there is no file {config.model}; `ipa lab score fit --output FILE` makes one")
    if config.fingers:
        files["fingers"] = str(FINGER_WEIGHTS[version])
    if config.reward == "dwpose":
        files |= _second_backend(config).weights()
    else:
        reward(config)
    return files


def _second_backend(config: ScoresConfig) -> PoseExtractor:
    try:
        return pose_extractor(PosesConfig(backend="dwpose", model=config.reward_model))
    except ConfigError as error:
        raise ConfigError(f"scores.reward_model, the folder for scores.reward: {error}") from None


def reward(config: ScoresConfig) -> Reward | None:
    """Return the second opinion that ``scores.reward`` names. Raises ``ConfigError`` when it can't be loaded."""
    if config.reward is None:
        return None
    if config.reward == "dwpose":
        from ipa_core.scoring import ConfidenceReward

        return ConfidenceReward(_second_backend(config))
    if config.reward == "vlm":
        return _vlm(config)
    try:
        if ":" in config.reward:
            found = resolve_name(config.reward)
        else:
            (entry,) = entry_points(group="ipa.rewards", name=config.reward)
            found = entry.load()
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(sorted(entry.name for entry in entry_points(group="ipa.rewards"))) or "none"
        raise ConfigError(
            f"scores.reward: {config.reward} can't be loaded ({error}); write module:attribute or the name of an entry "
            f"point of the group ipa.rewards (installed: {known})"
        ) from None
    if not callable(found):
        raise ConfigError(f"scores.reward: {config.reward} is no function (video, driving video, pose) -> by side [T]")
    return cast("Reward", found)


def _vlm(config: ScoresConfig) -> VlmReward:
    from ipa_core.scoring.vlm import VlmReward

    assert config.vlm_address and config.vlm_model, "the config was checked"
    return VlmReward(config.vlm_address, config.vlm_model)


def check_reward(config: ScoresConfig) -> None:
    """Raises ``ConfigError`` when a reward behind an address does not answer."""
    if config.reward == "vlm":
        _vlm(config).check()


def animation_model(
    config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool
) -> AnimationModel:
    """Load the pipeline folder; ``lora`` holds the bytes of a LoRA file. Training needs no text encoder. Raises
    ``MissingModel``, and ``UnknownModel`` when no kind of model here knows the pipeline class."""
    training = not text_encoder
    quantization = None if training else config.quantization
    if quantization is not None:
        check_quantization(config, execution)
    model = loaded_model(config, execution, lora, text_encoder=text_encoder, quantization=quantization)
    if execution.compile and not training:
        model.compile_blocks()
    if execution.gpus_per_clip > 1 and not training:
        model.spread(HelperProcesses(config, execution, lora))
    return model


def loaded_model(
    config: ModelConfig,
    execution: Execution,
    lora: bytes | None,
    *,
    text_encoder: bool,
    quantization: Quantization | None,
) -> AnimationModel:
    from ipa_core.models import kind_of

    folder = model_folder(config)
    return kind_of(folder).load(
        folder,
        dtype=config.dtype,
        device=device(execution),
        lora=lora,
        text_encoder=text_encoder,
        quantization=quantization,
    )


def check_quantization(config: ModelConfig, execution: Execution) -> None:
    """Raises ``ConfigError`` when this machine can't do ``candidates.model.quantization``."""
    if config.quantization is None:
        return
    if find_spec("torchao") is None:
        raise ConfigError(
            f"candidates.model.quantization: {config.quantization} needs the extra [quantized]: "
            "pip install 'ipa-pipeline[quantized]'"
        )
    if config.quantization == "fp8" and device(execution) == "cuda":
        import torch

        if (found := torch.cuda.get_device_capability()) < FP8:
            raise ConfigError(
                "candidates.model.quantization: fp8 needs a GPU of compute capability 8.9 (Ada, Hopper) or higher, "
                f"and this one has {found[0]}.{found[1]}; take int8"
            )


def combined_lora(config: ModelConfig, loras: Sequence[tuple[bytes, float]]) -> bytes:
    """Return LoRA files, each with its weight, as one. Raises ``ConfigError`` when one does not fit the model."""
    from ipa_core.models import kind_of

    folder = model_folder(config)
    return kind_of(folder).combined_lora(folder, loras)


def model_card(config: ModelConfig, alignment: AlignmentConfig, base_model: str, samples: int) -> str:
    """Return the Markdown text beside a trained LoRA; ``base_model`` is a hub id or a name, not a path."""
    from ipa_core.models import kind_of

    return kind_of(model_folder(config)).card(alignment, base_model, samples)


def model_folder(config: ModelConfig) -> Path:
    """Return the folder of the weights. Raises ``MissingModel``; it says where to get them and how large they are."""
    from ipa_core.models.location import resolve_model

    return resolve_model(config)


def check_trackers(execution: Execution) -> None:
    """Raises ``ConfigError`` when the package of a tracker is missing."""
    for name in execution.trackers:
        found = find_spec(name)
        # A folder of that name, such as the one that W&B writes, is no package.
        if found is None or found.origin is None:
            raise ConfigError(
                f"execution.trackers: the package of {name} is not installed; pip install 'ipa-pipeline[track]'"
            )


def device(execution: Execution) -> str:
    """Return the device of this process's models. Raises ``RunStopped`` when every GPU is taken."""
    from flows.engine.devices import claim_device

    return claim_device(execution)


@dataclass(frozen=True)
class Components:
    """Functions that build a run's models. Tests and benchmarks put fakes here. Workers must be able to import them."""

    pose_extractor: Callable[[PosesConfig], PoseExtractor] = pose_extractor
    hand_scorer: Callable[[ScoresConfig, PoseExtractor], HandScorer] = hand_scorer
    animation_model: Callable[[ModelConfig, Execution, bytes | None, bool], AnimationModel] = animation_model
    combined_lora: Callable[[ModelConfig, Sequence[tuple[bytes, float]]], bytes] = combined_lora
    model_folder: Callable[[ModelConfig], Path] = model_folder
    model_card: Callable[[ModelConfig, AlignmentConfig, str, int], str] = model_card
    score_files: Callable[[ScoresConfig], dict[str, str]] = score_files


def components() -> Components:
    """Return the project's own, or those that ``IPA_COMPONENTS`` names as ``module:attribute``, from elsewhere."""
    name = os.environ.get("IPA_COMPONENTS")
    if not name:
        return Components()
    try:
        found = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"IPA_COMPONENTS={name} can't be loaded: {error}") from None
    if not isinstance(found, Components):
        raise ConfigError(f"IPA_COMPONENTS={name} is no flows.engine.components.Components (module:attribute)")
    return found
