"""Wan-Animate through diffusers: the computations of ``WanAnimatePipeline`` in animation mode, one by one.

Source: "Wan-Animate: Unified Character Animation and Replacement with Holistic Replication" (arXiv 2509.14055);
diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import WanAnimatePipeline
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil

from ipa_core.config import DrawingConfig
from ipa_core.models.animation import Driving
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_animate.drawing import crop_faces, draw_body
from ipa_core.models.wan_vace.shared import WanModel

CARRIED: tuple[int, ...] = (1, 5)
"""Numbers of frames that a segment may take over from the one before."""


@dataclass(frozen=True, eq=False)
class Control:
    """pose: uint8 ``[T, H, W, 3]``, the drawn skeleton. face: uint8 ``[T, S, S, 3]``, the driving face."""

    pose: np.ndarray
    face: np.ndarray


class WanAnimateModel(WanModel):
    """The :class:`~ipa_core.models.AnimationModel` of a Wan-Animate pipeline folder, with all gradients off.

    Streams: ``condition [B, 20, R + T', h, w]`` (mask, and latents of the reference and of the frames before),
    ``pose [B, 16, T', h, w]``, ``image [B, L, D]`` (CLIP's view of the reference), ``prompt_embeds [B, L, D]`` and
    ``face`` uint8 ``[B, 3, T, S, S]``, or ``[B, 3, 1, 1, 1]`` for a face that is black everywhere.
    """

    blocks = ("WanTransformerBlock",)
    pipeline_class: ClassVar[Any] = WanAnimatePipeline
    encoders: ClassVar = ("text_encoder", "tokenizer", "image_encoder", "image_processor")
    wide: ClassVar = ("vae", "image_encoder")
    conditions: ClassVar = "condition"

    @classmethod
    def _own_parts(cls, folder: Path) -> dict[str, Any]:
        """Return the image processor: the pipeline would take another one, with other low bits, beside torchvision."""
        own = folder / "image_processor"
        return {"image_processor": CLIPImageProcessorPil.from_pretrained(own, local_files_only=True)}  # nosec B615 - a folder

    def draw(self, driving: Driving, drawing: DrawingConfig) -> Control:
        """Return pose and face video."""
        found = driving.pose if driving.found is None else driving.found
        face = crop_faces(driving.frames(), found, self.pipeline.transformer.config.motion_encoder_size)
        return Control(draw_body(driving.pose, drawing), face)

    @torch.no_grad()
    def encode_conditioning(
        self,
        control: Control,
        reference: np.ndarray,
        prompt: str,
        negative_prompt: str | None,
        before: np.ndarray | None = None,
    ) -> Conditioning:
        """See :class:`~ipa_core.models.AnimationModel`. The reference is scaled into the picture, the rest is black.

        Raises ``ValueError`` when ``before`` has neither one frame nor five.
        """
        frames, height, width = self._checked_size(control.pose)
        if before is not None and len(before) not in CARRIED:
            raise ValueError(f"Wan-Animate goes on from 1 or 5 frames, got {len(before)}")
        picture = Image.fromarray(reference)
        pixels = self.pipeline.vae_image_processor.preprocess(
            picture, height=height, width=width, resize_mode="fill"
        ).to(self.device, torch.float32)
        kept = self.pipeline.prepare_reference_image_latents(pixels, device=self.device)
        carried = self.pipeline.prepare_prev_segment_cond_latents(
            None if before is None else self._pixels(before),
            segment_frame_length=frames,
            start_frame=0 if before is None else 1,
            height=height,
            width=width,
            prev_segment_cond_frames=CARRIED[0] if before is None else len(before),
            device=self.device,
        )
        pose = self.pipeline.prepare_pose_latents(self._pixels(control.pose), device=self.device)
        with self._encoding():
            image = self.pipeline.encode_image(picture, self.device)
        guided, unguided = self._encoded_prompts(prompt, negative_prompt)
        face = torch.from_numpy(control.face).permute(3, 0, 1, 2)[None].contiguous().to(self.device)
        black = torch.zeros((1, 3, 1, 1, 1), dtype=torch.uint8, device=self.device)
        return Conditioning(
            shared={
                "condition": torch.cat([kept, carried], dim=2).to(self.dtype),
                "pose": pose.to(self.dtype),
                "image": image.to(self.dtype),
            },
            guided=guided | {"face": face},
            unguided=None if unguided is None else unguided | {"face": black},
            reference_latents=kept[:, -self._mean.shape[1] :].clone(),
            frames=frames,
            height=height,
            width=width,
        )

    def velocity(self, latents: Tensor, t: Tensor, streams: Mapping[str, Tensor]) -> Tensor:
        """See :class:`~ipa_core.models.AnimationModel`. The prediction has the model's dtype."""
        size = self.pipeline.transformer.config.motion_encoder_size
        frames = (latents.shape[2] - 2) * self.pipeline.vae_scale_factor_temporal + 1
        face = streams["face"].expand(-1, -1, frames, size, size)
        prediction: Tensor = self.transformer(
            hidden_states=torch.cat([latents, streams["condition"]], dim=1).to(self.dtype),
            # float64 gives a scheduler's timestep back exactly when t is that timestep / 1000.
            timestep=(t.double() * 1000).float(),
            encoder_hidden_states=streams["prompt_embeds"].to(self.dtype),
            encoder_hidden_states_image=streams["image"].to(self.dtype),
            pose_hidden_states=streams["pose"].to(self.dtype),
            face_pixel_values=(face.float() / 255 * 2 - 1).to(self.dtype),
            return_dict=False,
        )[0]
        return prediction

    def _pixels(self, video: np.ndarray) -> Tensor:
        """Return the video as float32 ``[1, 3, T, H, W]`` in [-1, 1]."""
        pictures = [Image.fromarray(picture) for picture in video]
        pixels: Tensor = self.pipeline.video_processor.preprocess_video(pictures)
        return pixels.to(self.device, torch.float32)
