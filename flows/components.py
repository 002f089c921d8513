"""From a config to the backend that it names. Each is imported inside its arm: nobody loads the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ipa_core.config import ConfigError, Execution, ModelConfig, PosesConfig, ScoresConfig
from ipa_core.pose import PoseExtractor

if TYPE_CHECKING:
    from ipa_core.models.animation import AnimationModel
    from ipa_core.scoring import HandScorer


def pose_extractor(config: PosesConfig) -> PoseExtractor:
    match config.backend:
        case "mediapipe":
            from ipa_core.pose.mediapipe import MediaPipeExtractor

            return MediaPipeExtractor(config)
        case "ultralytics":
            from ipa_core.pose.ultralytics import UltralyticsExtractor

            return UltralyticsExtractor(config)
        case "dwpose":
            from ipa_core.pose.dwpose import DWPoseExtractor

            return DWPoseExtractor(config)


def hand_scorer(config: ScoresConfig, extractor: PoseExtractor) -> HandScorer:
    from ipa_core.scoring import KeypointHandScorer

    return KeypointHandScorer(extractor, config)


def animation_model(
    config: ModelConfig, execution: Execution, lora: bytes | None, text_encoder: bool
) -> AnimationModel:
    """Load the pipeline folder; ``lora`` is a ``pytorch_lora_weights.safetensors``. Training needs no text encoder.
    Raises ``MissingModel``."""
    from ipa_core.models.wan_vace import WanVACEModel

    return WanVACEModel.load(
        model_folder(config), dtype=config.dtype, device=device(execution), lora=lora, text_encoder=text_encoder
    )


def model_folder(config: ModelConfig) -> Path:
    """Where the weights lie. Raises ``MissingModel``, whose sentence says where to get them and how large they are."""
    from ipa_core.models.location import resolve_model

    return resolve_model(config)


def device(execution: Execution) -> str:
    """Where this process's models go. Raises ``RunStopped`` where every GPU is taken."""
    from flows.devices import claim_device

    return claim_device(execution)


@dataclass(frozen=True)
class Components:
    """What a run computes with. Tests and benchmarks put fakes here; the functions must be importable by workers."""

    pose_extractor: Callable[[PosesConfig], PoseExtractor] = pose_extractor
    hand_scorer: Callable[[ScoresConfig, PoseExtractor], HandScorer] = hand_scorer
    animation_model: Callable[[ModelConfig, Execution, bytes | None, bool], AnimationModel] = animation_model
    model_folder: Callable[[ModelConfig], Path] = model_folder


def components() -> Components:
    """The project's own, or what ``IPA_COMPONENTS`` names as ``module:attribute``: for backends that live elsewhere."""
    place = os.environ.get("IPA_COMPONENTS")
    if not place:
        return Components()
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute, None)
    if not isinstance(found, Components):
        raise ConfigError(f"IPA_COMPONENTS={place} names no flows.components.Components; write it as module:attribute")
    return found
