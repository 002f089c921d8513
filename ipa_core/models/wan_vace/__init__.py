"""Wan-VACE: the model, what it costs, the card of its LoRAs. Names that need torch load lazily."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipa_core.models.wan_vace.model import WanVACEModel

__all__ = ["WanVACEModel"]


def __getattr__(name: str) -> object:
    if name != "WanVACEModel":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from ipa_core.models.wan_vace.model import WanVACEModel

    return WanVACEModel
