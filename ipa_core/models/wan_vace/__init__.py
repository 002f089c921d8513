"""Wan-VACE: the kind. The other files hold the model, its LoRAs, their card and the cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ipa_core.config import AlignmentConfig, DType
from ipa_core.models.animation import ModelKind, UnknownModel
from ipa_core.models.wan_vace.card import model_card
from ipa_core.models.wan_vace.cost import Network, network_of

if TYPE_CHECKING:
    from ipa_core.models.wan_vace.model import WanVACEModel

_DOWNLOADS: Final = {
    "Wan-AI/Wan2.1-VACE-1.3B-diffusers": "about 19 GB",
    "Wan-AI/Wan2.1-VACE-14B-diffusers": "about 75 GB",
}
"""Sizes with the text encoder (11 GB)."""


@dataclass(frozen=True)
class WanVACE:
    """The :class:`~ipa_core.models.animation.ModelKind` of Wan 2.1 VACE and of small models of the same classes."""

    pipeline: str = "WanVACEPipeline"

    @property
    def downloads(self) -> Mapping[str, str]:
        return _DOWNLOADS

    def check_index(self, index: Mapping[str, Any], folder: Path) -> None:
        """Refuse Wan 2.2: its two transformers share the steps, so the first one alone gives another result."""
        if (index.get("transformer_2") or [None])[0] is not None:
            raise UnknownModel(
                f"{folder} holds a Wan 2.2 model, which has a second transformer (transformer_2): only models with one "
                "can be used; set candidates.model.path to a Wan 2.1 VACE model, such as "
                "Wan-AI/Wan2.1-VACE-14B-diffusers"
            )

    def load(
        self, folder: Path, *, dtype: DType, device: str, lora: Path | bytes | None = None, text_encoder: bool = True
    ) -> WanVACEModel:
        from ipa_core.models.wan_vace.model import WanVACEModel

        return WanVACEModel.load(folder, dtype=dtype, device=device, lora=lora, text_encoder=text_encoder)

    def network(self, path: str) -> Network | None:
        return network_of(path)

    def card(self, config: AlignmentConfig, base_model: str, samples: int) -> str:
        return model_card(config, base_model, samples)


WAN_VACE: Final[ModelKind] = WanVACE()
