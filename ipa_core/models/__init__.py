"""Animation models: their interface, their kinds, their weights on disk. Names that need torch load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING

from ipa_core.models.animation import LORA_FILE, AnimationModel, ModelKind, Network, UnknownModel
from ipa_core.models.kinds import KINDS, kind_of, known_network
from ipa_core.models.location import MissingModel, resolve_model

if TYPE_CHECKING:
    from ipa_core.models.conditioning import Conditioning
    from ipa_core.models.latents import latents_from_bytes, latents_to_bytes
    from ipa_core.models.wan_vace.model import WanVACEModel

__all__ = [
    "KINDS",
    "LORA_FILE",
    "AnimationModel",
    "Conditioning",
    "MissingModel",
    "ModelKind",
    "Network",
    "UnknownModel",
    "WanVACEModel",
    "kind_of",
    "known_network",
    "latents_from_bytes",
    "latents_to_bytes",
    "resolve_model",
]

_WITH_TORCH = {
    "Conditioning": "conditioning",
    "WanVACEModel": "wan_vace.model",
    "latents_from_bytes": "latents",
    "latents_to_bytes": "latents",
}


def __getattr__(name: str) -> object:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
