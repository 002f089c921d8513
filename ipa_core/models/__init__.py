"""Animation models: their interface, their kinds, their weights on disk. Importing the package loads no torch."""

from ipa_core.models.animation import LORA_FILE, AnimationModel, ModelKind, Network, UnknownModel
from ipa_core.models.kinds import KINDS, kind_of, known_network
from ipa_core.models.location import MissingModel, resolve_model

__all__ = [
    "KINDS",
    "LORA_FILE",
    "AnimationModel",
    "MissingModel",
    "ModelKind",
    "Network",
    "UnknownModel",
    "kind_of",
    "known_network",
    "resolve_model",
]
