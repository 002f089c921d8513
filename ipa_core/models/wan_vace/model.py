"""Wan-VACE through diffusers: the computations of ``WanVACEPipeline`` one by one, so they can be shared and trained.

Source: Jiang et al., "VACE: All-in-One Video Creation and Editing" (ICCV 2025); diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import diffusers.utils.logging
import numpy as np
import torch
import transformers.utils.logging
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanVACEPipeline
from peft import LoraConfig
from PIL import Image
from torch import Tensor

from ipa_core.config import AlignmentConfig, CandidatesConfig, DType
from ipa_core.models.animation import LORA_FILE, Scheduler
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_vace.experts import Experts
from ipa_core.models.wan_vace.lora import experts_lora_files, lora_files, target_modules
from ipa_core.models.wan_vace.lora_reader import adapter_of, read_lora
from ipa_core.scratch import scratch_folder

REFERENCE_FRAMES: Final = 1
"""R: number of latent frames with the reference image, in front of the video's."""

_PROMPT_TOKENS: Final = 512
_FRAMES_PER_CHUNK: Final = 4
"""The VAE encodes the first frame, then chunks of four. It would lose frames that fill no chunk."""


class WanVACEModel:
    """The :class:`~ipa_core.models.AnimationModel` of a Wan-VACE pipeline folder, with all gradients off.

    Streams: ``control [B, C_control, R + T', h, w]`` (inactive, reactive, folded mask) and ``prompt_embeds [B, L, D]``,
    as the transformer takes them.
    """

    blocks: Final = ("WanTransformerBlock", "WanVACETransformerBlock")

    def __init__(self, pipeline: Any) -> None:
        for network in (pipeline.vae, pipeline.transformer, pipeline.transformer_2, pipeline.text_encoder):
            if network is not None:
                network.requires_grad_(False)
        self.pipeline = pipeline
        self.transformer: torch.nn.Module = pipeline.transformer
        if pipeline.transformer_2 is not None:
            self.transformer = Experts(pipeline.transformer, pipeline.transformer_2, pipeline.config.boundary_ratio)
        self.device: torch.device = pipeline.transformer.device
        self.dtype: torch.dtype = pipeline.transformer.dtype
        config = pipeline.vae.config
        self._control_layers = len(pipeline.transformer.config.vace_layers)
        self._pixels_per_patch = pipeline.vae_scale_factor_spatial * pipeline.transformer.config.patch_size[1]
        self._mean = self._per_channel(config.latents_mean)
        self._inverse_std = 1.0 / self._per_channel(config.latents_std)

    @classmethod
    def load(
        cls, folder: Path, *, dtype: DType, device: str, lora: Path | bytes | None = None, text_encoder: bool = True
    ) -> Self:
        """Load a pipeline folder: transformer and text encoder in ``dtype``, the VAE in float32.

        The text encoder of Wan 2.1 takes 11 GB. See :meth:`ipa_core.models.ModelKind.load` for arguments and errors.
        """
        without = {} if text_encoder else {"text_encoder": None, "tokenizer": None}
        dtypes = {"vae": torch.float32, "default": getattr(torch, dtype)}
        with _no_progress_bars():
            pipeline = WanVACEPipeline.from_pretrained(folder, local_files_only=True, dtype=dtypes, **without)
        model = cls(pipeline.to(device))
        if lora is not None:
            model._load_lora(lora)
        return model

    def _load_lora(self, lora: Path | bytes) -> None:
        if isinstance(lora, Path):
            lora = (lora / LORA_FILE if lora.is_dir() else lora).read_bytes()
        data = read_lora(lora, self.transformer)
        if isinstance(self.transformer, Experts):
            tensors, settings = adapter_of(data)
            self.transformer.load_lora_adapter(tensors, prefix=None, metadata=settings)
            self.transformer.requires_grad_(False)
            return
        with scratch_folder() as folder:
            # A file: its metadata hold the scaling (alpha), which a dict of tensors loses.
            (folder / LORA_FILE).write_bytes(data)
            self.pipeline.load_lora_weights(
                str(folder), weight_name=LORA_FILE, local_files_only=True, use_safetensors=True
            )
        assert self.pipeline.get_list_adapters()
        self.transformer.requires_grad_(False)

    @torch.no_grad()
    def encode_conditioning(
        self, control_video: np.ndarray, reference: np.ndarray, prompt: str, negative_prompt: str | None
    ) -> Conditioning:
        """See :class:`~ipa_core.models.AnimationModel`. The reference is scaled into the picture, the rest is white."""
        frames, height, width = self._checked_size(control_video)
        video, mask, references = self.pipeline.preprocess_conditions(
            [Image.fromarray(picture) for picture in control_video],
            reference_images=Image.fromarray(reference),
            height=height,
            width=width,
            dtype=torch.float32,
            device=self.device,
        )
        latents = self.pipeline.prepare_video_latents(video, mask, references, device=self.device)
        folded_mask = self.pipeline.prepare_masks(mask, references)
        prompt_embeds, negative_prompt_embeds = self.pipeline.encode_prompt(
            prompt,
            negative_prompt,
            do_classifier_free_guidance=negative_prompt is not None,
            max_sequence_length=_PROMPT_TOKENS,
            device=self.device,
        )
        negative = None if negative_prompt_embeds is None else negative_prompt_embeds.to(self.dtype)
        return Conditioning(
            shared={"control": torch.cat([latents, folded_mask], dim=1).to(self.dtype)},
            guided={"prompt_embeds": prompt_embeds.to(self.dtype)},
            unguided=None if negative is None else {"prompt_embeds": negative},
            reference_latents=latents[:, : self._mean.shape[1], :REFERENCE_FRAMES].clone(),
            frames=frames,
            height=height,
            width=width,
        )

    @torch.no_grad()
    def encode_video(self, video: np.ndarray) -> Tensor:
        self._checked_size(video)
        pixels = self.pipeline.video_processor.preprocess_video([Image.fromarray(picture) for picture in video])
        latents: Tensor = self.pipeline.vae.encode(pixels.to(self.device)).latent_dist.mode()
        return (latents - self._mean) * self._inverse_std

    def latent_shape(self, conditioning: Conditioning) -> tuple[int, int, int, int]:
        _, _, frames, height, width = conditioning.streams()["control"].shape
        return self._mean.shape[1], frames, height, width

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

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        latents = latents[:, :, REFERENCE_FRAMES:].to(self.device, torch.float32)
        latents = latents / self._inverse_std + self._mean
        # One by one: a batch needs more memory in the decoder and is not faster.
        videos = [self.pipeline.vae.decode(sample, return_dict=False)[0] for sample in latents.split(1)]
        if not all(torch.isfinite(video).all() for video in videos):
            raise FloatingPointError(
                "the VAE gave pixels that are NaN or infinite; see whether its weights are damaged"
            )
        pixels = ((torch.cat(videos) / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 4, 1).cpu().numpy()

    def scheduler(self, config: CandidatesConfig) -> Scheduler:
        """Return one of the two schedulers that Wan folders come with."""
        return wan_scheduler(config)

    def lora_targets(self, config: AlignmentConfig) -> str:
        return target_modules(config, experts=isinstance(self.transformer, Experts))

    def t_range(self, config: AlignmentConfig) -> tuple[float, float]:
        """See :class:`~ipa_core.models.AnimationModel`. One expert alone learns from its own range."""
        if not isinstance(self.transformer, Experts) or config.experts == "both":
            return 0.0, 1.0
        boundary = self.transformer.boundary / 1000
        return (boundary, 1.0) if config.experts == "high" else (0.0, boundary)

    def lora_files(self, state: Mapping[str, Tensor], adapter: LoraConfig) -> dict[str, bytes]:
        if isinstance(self.transformer, Experts):
            return experts_lora_files(state, adapter)
        return lora_files(state, adapter)

    def _per_channel(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device).view(1, -1, 1, 1, 1)

    def _checked_size(self, video: np.ndarray) -> tuple[int, int, int]:
        base = self._pixels_per_patch
        frames, height, width, _ = video.shape
        if height % base or width % base or (frames - 1) % _FRAMES_PER_CHUNK:
            raise ValueError(
                f"the model wants height and width in multiples of {base} and a multiple of {_FRAMES_PER_CHUNK} frames "
                f"plus one, got {frames} frames of {width} x {height}"
            )
        return frames, height, width


def wan_scheduler(config: CandidatesConfig) -> Scheduler:
    """Return a new scheduler. For all other options the Wan folders have the defaults of the classes, too."""
    scheduler: Any
    if config.scheduler == "euler":
        scheduler = FlowMatchEulerDiscreteScheduler(shift=config.shift)
    else:
        scheduler = UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=config.shift
        )
    return scheduler


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Stop both libraries from drawing a bar on stderr at every load: it would disturb the run's own progress."""
    loggings: list[Any] = [diffusers.utils.logging, transformers.utils.logging]
    shown = [logging for logging in loggings if logging.is_progress_bar_enabled()]
    for logging in shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging in shown:
            logging.enable_progress_bar()
