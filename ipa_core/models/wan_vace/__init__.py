"""Wan-VACE: the kind. The other files hold the model, its LoRAs, their card and the cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ipa_core.config import AlignmentConfig, DType, Quantization
from ipa_core.models.animation import ModelKind, UnknownModel
from ipa_core.models.folder import EXPERTS, INDEX, check_transformer, parts_of
from ipa_core.models.wan_vace.card import model_card
from ipa_core.models.wan_vace.cost import Network, network_of

if TYPE_CHECKING:
    from ipa_core.models.wan_vace.model import WanVACEModel

_DOWNLOADS: Final = {
    "Wan-AI/Wan2.1-VACE-1.3B-diffusers": "about 19 GB",
    "Wan-AI/Wan2.1-VACE-14B-diffusers": "about 75 GB",
    "linoyts/Wan2.2-VACE-Fun-14B-diffusers": "about 81 GB",
}
"""Sizes with the text encoder (11 GB)."""
TRANSFORMER: Final = "WanVACETransformer3DModel"


@dataclass(frozen=True)
class WanVACE:
    """The :class:`~ipa_core.models.animation.ModelKind` of Wan 2.1 VACE, of Wan 2.2 VACE-Fun with its two
    experts, and of small models of the same classes."""

    pipeline: str = "WanVACEPipeline"

    @property
    def downloads(self) -> Mapping[str, str]:
        return _DOWNLOADS

    def check_index(self, index: Mapping[str, Any], folder: Path) -> None:
        """Refuse other transformers, and a Wan 2.2 folder without both experts: one alone gives another result."""
        experts = [part for part in EXPERTS if part in parts_of(index)]
        configs = [check_transformer(folder, part, TRANSFORMER) for part in experts]
        if "transformer" not in experts or (len(experts) == 2) != (index.get("boundary_ratio") is not None):
            raise UnknownModel(
                f"{folder / INDEX} names {' and '.join(experts) or 'no transformer'}, with boundary_ratio "
                f"{index.get('boundary_ratio')}: a Wan 2.2 model has transformer, transformer_2 and a boundary_ratio, "
                "a Wan 2.1 model has transformer alone; download the model again"
            )
        if len(experts) == 2:
            _check_boundary(index["boundary_ratio"], folder)
        sizes = [{name: value for name, value in one.items() if name[0] != "_"} for one in configs if one]
        if any(one != sizes[0] for one in sizes):
            raise UnknownModel(
                f"transformer and transformer_2 of {folder} have different sizes: they are no experts of one model; "
                "download the model again"
            )

    def load(
        self,
        folder: Path,
        *,
        dtype: DType,
        device: str,
        lora: Path | bytes | None = None,
        text_encoder: bool = True,
        quantization: Quantization | None = None,
    ) -> WanVACEModel:
        from ipa_core.models.wan_vace.model import WanVACEModel

        return WanVACEModel.load(
            folder, dtype=dtype, device=device, lora=lora, text_encoder=text_encoder, quantization=quantization
        )

    def combined_lora(self, folder: Path, loras: Sequence[tuple[bytes, float]]) -> bytes:
        from ipa_core.models.wan_vace.model import WanVACEModel

        return WanVACEModel.combined_lora(folder, loras)

    def heads(self, folder: Path) -> int | None:
        return check_transformer(folder, "transformer", TRANSFORMER).get("num_attention_heads")

    def network(self, path: str) -> Network | None:
        return network_of(path)

    def card(self, config: AlignmentConfig, base_model: str, samples: int) -> str:
        return model_card(config, base_model, samples)


def _check_boundary(ratio: object, folder: Path) -> None:
    """Refuse what is no share of the noise levels: one of the experts would make the whole video."""
    if not isinstance(ratio, int | float) or not 0 < ratio < 1:
        raise UnknownModel(
            f"{folder / INDEX}: boundary_ratio must be a number between 0 and 1 (Wan 2.2: 0.875), got {ratio!r}; "
            "download the model again"
        )


WAN_VACE: Final[ModelKind] = WanVACE()
