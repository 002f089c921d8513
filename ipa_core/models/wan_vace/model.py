"""Wan-VACE through diffusers: the computations of ``WanVACEPipeline`` one by one, so they can be shared and trained.

Source: Jiang et al., "VACE: All-in-One Video Creation and Editing" (ICCV 2025); diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
import torch
from diffusers import WanVACEPipeline
from PIL import Image
from torch import Tensor

from ipa_core.config import DrawingConfig
from ipa_core.drawing import draw_sequence
from ipa_core.models.animation import Driving
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_vace.shared import REFERENCE_FRAMES, WanModel, wan_scheduler

__all__ = ["REFERENCE_FRAMES", "WanVACEModel", "wan_scheduler"]


class WanVACEModel(WanModel):
    """The :class:`~ipa_core.models.AnimationModel` of a Wan-VACE pipeline folder, with all gradients off.

    Streams: ``control [B, C_control, R + T', h, w]`` (inactive, reactive, folded mask) and ``prompt_embeds [B, L, D]``,
    as the transformer takes them.
    """

    blocks = ("WanTransformerBlock", "WanVACETransformerBlock")
    pipeline_class: ClassVar[Any] = WanVACEPipeline
    encoders: ClassVar = ("text_encoder", "tokenizer")
    wide: ClassVar = ("vae",)
    conditions: ClassVar = "control"

    def __init__(self, pipeline: Any, device: torch.device | None = None) -> None:
        super().__init__(pipeline, device)
        self._control_layers: Final = len(pipeline.transformer.config.vace_layers)

    def draw(self, driving: Driving, drawing: DrawingConfig) -> np.ndarray:
        """Return the control video, uint8 ``[T, H, W, 3]``."""
        return draw_sequence(driving.pose, drawing)

    @torch.no_grad()
    def encode_conditioning(
        self,
        control: np.ndarray,
        reference: np.ndarray,
        prompt: str,
        negative_prompt: str | None,
        before: np.ndarray | None = None,
    ) -> Conditioning:
        """See :class:`~ipa_core.models.AnimationModel`. The reference is scaled into the picture, the rest is white.

        Frames from ``before`` are given pictures, with mask 0: VACE's own way to go on with a video.
        """
        frames, height, width = self._checked_size(control)
        known = 0 if before is None else len(before)
        given = control if before is None else np.concatenate([before, control[known:]])
        video, mask, references = self.pipeline.preprocess_conditions(
            [Image.fromarray(picture) for picture in given],
            reference_images=Image.fromarray(reference),
            height=height,
            width=width,
            dtype=torch.float32,
            device=self.device,
        )
        mask[:, :, :known] = 0
        latents = self.pipeline.prepare_video_latents(video, mask, references, device=self.device)
        folded_mask = self.pipeline.prepare_masks(mask, references)
        guided, unguided = self._encoded_prompts(prompt, negative_prompt)
        return Conditioning(
            shared={"control": torch.cat([latents, folded_mask], dim=1).to(self.dtype)},
            guided=guided,
            unguided=unguided,
            reference_latents=latents[:, : self._mean.shape[1], :REFERENCE_FRAMES].clone(),
            frames=frames,
            height=height,
            width=width,
        )

    def velocity(self, latents: Tensor, t: Tensor, streams: Mapping[str, Tensor]) -> Tensor:
        """See :class:`~ipa_core.models.AnimationModel`. The prediction has the model's dtype."""
        scale = torch.ones(self._control_layers, dtype=self.dtype, device=self.device)
        prediction: Tensor = self.transformer(
            hidden_states=latents.to(self.dtype),
            # float64 gives a scheduler's timestep back exactly when t is that timestep / 1000.
            timestep=(t.double() * 1000).float(),
            encoder_hidden_states=streams["prompt_embeds"].to(self.dtype),
            control_hidden_states=streams["control"].to(self.dtype),
            control_hidden_states_scale=scale,
            return_dict=False,
        )[0]
        return prediction
