"""Wan-Animate: the kind. The other files hold the model, its drawing and the cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ipa_core.config import AlignmentConfig, DType, Quantization
from ipa_core.models.animation import ModelKind, UnknownModel
from ipa_core.models.folder import INDEX, check_transformer, parts_of
from ipa_core.models.wan_animate.cost import AnimateNetwork, network_of
from ipa_core.models.wan_vace.card import model_card

if TYPE_CHECKING:
    from ipa_core.models.wan_animate.model import WanAnimateModel

_DOWNLOADS: Final = {"Wan-AI/Wan2.2-Animate-14B-Diffusers": "about 82 GB"}


@dataclass(frozen=True)
class WanAnimate:
    """The :class:`~ipa_core.models.animation.ModelKind` of Wan 2.2 Animate, in animation mode."""

    pipeline: str = "WanAnimatePipeline"

    @property
    def downloads(self) -> Mapping[str, str]:
        return _DOWNLOADS

    def check_index(self, index: Mapping[str, Any], folder: Path) -> None:
        """Refuse other transformers, and a folder without the part that sees the reference."""
        missing = [part for part in ("transformer", "image_encoder", "image_processor") if part not in parts_of(index)]
        if missing:
            raise UnknownModel(
                f"{folder / INDEX} names no {missing[0]}, which Wan-Animate needs; download the model again"
            )
        check_transformer(folder, "transformer", "WanAnimateTransformer3DModel")

    def load(
        self,
        folder: Path,
        *,
        dtype: DType,
        device: str,
        lora: Path | bytes | None = None,
        text_encoder: bool = True,
        quantization: Quantization | None = None,
    ) -> WanAnimateModel:
        from ipa_core.models.wan_animate.model import WanAnimateModel

        return WanAnimateModel.load(
            folder, dtype=dtype, device=device, lora=lora, text_encoder=text_encoder, quantization=quantization
        )

    def combined_lora(self, folder: Path, loras: Sequence[tuple[bytes, float]]) -> bytes:
        from ipa_core.models.wan_animate.model import WanAnimateModel

        return WanAnimateModel.combined_lora(folder, loras)

    def heads(self, folder: Path) -> int | None:
        return None  # Its face blocks attend frame by frame, and a share of the tokens is no whole frame.

    def network(self, path: str) -> AnimateNetwork | None:
        return network_of(path)

    def card(self, config: AlignmentConfig, base_model: str, samples: int) -> str:
        return model_card(config, base_model, samples, pipeline=self.pipeline, tag="wan-animate")


WAN_ANIMATE: Final[ModelKind] = WanAnimate()
