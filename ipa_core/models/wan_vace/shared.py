"""The parts that Wan's models share: the codec, the schedulers, the LoRA.

Source: Wan 2.1 (arXiv 2503.20314); diffusers 0.42.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import diffusers
import diffusers.utils.logging
import numpy as np
import torch
import transformers.utils.logging
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from peft import LoraConfig
from PIL import Image
from torch import Tensor

from ipa_core.config import AlignmentConfig, CandidatesConfig, ConfigError, DType, Quantization
from ipa_core.models.animation import LORA_FILE, Scheduler
from ipa_core.models.compiled import CompiledBlocks, compiler_trouble
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.folder import EXPERTS, INDEX, parts_of, read_json
from ipa_core.models.group import Helpers, Seat
from ipa_core.models.quantized import quantize, torchao_version
from ipa_core.models.wan_vace.experts import Experts
from ipa_core.models.wan_vace.lora import experts_lora_files, lora_files, target_modules
from ipa_core.models.wan_vace.lora_reader import adapter_of, combined_loras, read_lora
from ipa_core.models.wan_vace.placement import (
    SPLIT_ATTENTION,
    Placement,
    at_work,
    attention,
    fast_attention,
    memory_of,
    placement,
    put,
    sizes_of,
)
from ipa_core.models.wan_vace.spread import Lead, Share, follow

log = logging.getLogger(__name__)
REFERENCE_FRAMES: Final = 1
"""R: number of latent frames with the reference image, in front of the video's."""
PROMPT_TOKENS: Final = 512
_FRAMES_PER_CHUNK: Final = 4
"""The VAE encodes the first frame, then chunks of four. It would lose frames that fill no chunk."""


class WanModel:
    """The common half of the :class:`~ipa_core.models.AnimationModel` of each Wan pipeline; all gradients are off."""

    pipeline_class: ClassVar[Any]
    encoders: ClassVar[tuple[str, ...]]
    """Parts of the pipeline that only encode a clip's conditioning; training needs none of them."""
    wide: ClassVar[tuple[str, ...]]
    """Parts that stay in float32."""
    blocks: tuple[str, ...]
    conditions: ClassVar[str]
    """Name of the stream that has the shape of the latents."""

    def __init__(self, pipeline: Any, device: torch.device | None = None) -> None:
        """``device``: where the model computes, if its parts are not there yet; see :meth:`_place`."""
        for network in pipeline.components.values():
            if isinstance(network, torch.nn.Module):
                network.requires_grad_(False)
        self.pipeline = pipeline
        self.transformer: torch.nn.Module = pipeline.transformer
        second = pipeline.components.get("transformer_2")
        if second is not None:
            self.transformer = Experts(pipeline.transformer, second, pipeline.config.boundary_ratio)
        self.device: torch.device = device or pipeline.transformer.device
        self.dtype: torch.dtype = pipeline.transformer.dtype
        config = pipeline.vae.config
        self._pixels_per_patch = pipeline.vae_scale_factor_spatial * pipeline.transformer.config.patch_size[1]
        self._placed = Placement()
        self._attention = "native"
        self._compiled: CompiledBlocks | None = None
        self._quantized: Quantization | None = None
        self._shared: Lead | Share | None = None
        self._mean = self._per_channel(config.latents_mean)
        self._inverse_std = 1.0 / self._per_channel(config.latents_std)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: DType,
        device: str,
        lora: Path | bytes | None = None,
        text_encoder: bool = True,
        quantization: Quantization | None = None,
    ) -> Self:
        """Load a pipeline folder: transformer and text encoder in ``dtype``, the codec in float32.

        The text encoder takes 11 GB. See :meth:`ipa_core.models.ModelKind.load` for arguments and errors.
        """
        # What is not loaded is None.
        given = cls._own_parts(folder) if text_encoder else dict.fromkeys(cls.encoders)
        dtypes = dict.fromkeys(cls.wide, torch.float32) | {"default": getattr(torch, dtype)}
        with _no_progress_bars():
            pipeline = cls.pipeline_class.from_pretrained(
                folder, local_files_only=True, dtype=dtypes, use_safetensors=True, **given
            )
        model = cls(pipeline, torch.device(device))
        if lora is not None:
            model._load_lora(lora)
        if quantization is not None:
            quantize(model._transformers, model.blocks, quantization)
            model._quantized = quantization
        model._place(memory_of(model.device))
        return model

    def _place(self, memory: float) -> None:
        """Put the parts on the device, as far as it has so many bytes; choose the kernel that samples."""
        self._placed = placement(sizes_of(self.pipeline), self.encoders, memory)
        put(self.pipeline, self.device, self._placed, self.encoders)
        if isinstance(self.transformer, Experts) and self._placed.experts_wait and not self._placed.blocks_wait:
            self.transformer.alone_on = self.device
        self._attention = fast_attention(self._transformers, self.device, self.dtype)

    @property
    def _transformers(self) -> list[Any]:
        return [self.pipeline.components[name] for name in EXPERTS if self.pipeline.components.get(name) is not None]

    @property
    def how(self) -> dict[str, str]:
        """See :class:`~ipa_core.models.AnimationModel`."""
        decoding = "tiles" if self.pipeline.vae.use_tiling else "whole"
        compiled = {} if self._compiled is None else {"compiled": "blocks"}
        quantized = {} if self._quantized is None else {"quantized": f"{self._quantized} by {torchao_version()}"}
        about = {"attention": self._attention, "placement": str(self._placed), "decoding": decoding}
        shared = {} if self._shared is None else {"gpus_per_clip": str(self._shared.size)}
        return about | compiled | quantized | shared

    @contextmanager
    def sampling(self) -> Iterator[None]:
        compiled = nullcontext() if self._compiled is None else self._compiled.at_work()
        shared = nullcontext() if self._shared is None else self._shared.at_work()
        # In this order diffusers refuses a kernel that does not know of the other processes.
        with shared, attention(self._transformers, self._attention), compiled:
            yield

    def compile_blocks(self) -> None:
        """See :class:`~ipa_core.models.AnimationModel`."""
        trouble = "they wait in main memory" if self._placed.blocks_wait else compiler_trouble(self.device)
        if trouble is None:
            self._compiled = CompiledBlocks(self._transformers, self.blocks)
        else:
            log.warning("execution.compile: the blocks are not compiled, and sampling is slower: %s", trouble)

    def spread(self, helpers: Helpers) -> None:
        """See :class:`~ipa_core.models.AnimationModel`."""
        self._share_passes(Lead(self.transformer, self.device, helpers))

    @torch.no_grad()
    def help(self, seat: Seat, orders: Iterable[str]) -> None:
        self._share_passes(Share(self.transformer, self.device, seat))
        with self.sampling():
            follow(self.transformer, self.device, orders)

    def _share_passes(self, part: Lead | Share) -> None:
        if self._placed.blocks_wait:
            raise ConfigError(
                "execution.gpus_per_clip needs GPUs that hold the whole transformer, and here its blocks wait in main "
                "memory; set it to 1, or quantize the model (candidates.model.quantization)"
            )
        self._shared = part
        # diffusers can't split FlashAttention 3.
        self._attention = fast_attention(self._transformers, self.device, self.dtype, SPLIT_ATTENTION)

    @contextmanager
    def _encoding(self) -> Iterator[None]:
        """Have the encoders on the device within the block."""
        parts = [self.pipeline.components.get(name) for name in self.encoders] if self._placed.encoders_wait else []
        with at_work([part for part in parts if isinstance(part, torch.nn.Module)], self.device):
            yield

    @classmethod
    def _own_parts(cls, folder: Path) -> dict[str, Any]:
        """Return the parts that the pipeline would load in another way."""
        return {}

    @classmethod
    def combined_lora(cls, folder: Path, loras: Sequence[tuple[bytes, float]]) -> bytes:
        """See :meth:`ipa_core.models.ModelKind.combined_lora`. The weights of the model are not read."""
        index = read_json(folder / INDEX)
        with torch.device("meta"):
            parts = {part: _without_weights(folder / part) for part in EXPERTS if part in parts_of(index)}
            model = parts["transformer"]
            if "transformer_2" in parts:
                model = Experts(model, parts["transformer_2"], index["boundary_ratio"])
        return combined_loras(loras, model)

    def _load_lora(self, lora: Path | bytes) -> None:
        if isinstance(lora, Path):
            lora = (lora / LORA_FILE if lora.is_dir() else lora).read_bytes()
        tensors, settings = adapter_of(read_lora(lora, self.transformer))
        carrier: Any = self.transformer
        # Layers of experts begin with the expert's name, which stands in the file too.
        prefix = None if isinstance(carrier, Experts) else "transformer"
        metadata = {name if prefix is None else f"{prefix}.{name}": value for name, value in settings.items()}
        carrier.load_lora_adapter(tensors, prefix=prefix, metadata=metadata)
        assert carrier.peft_config
        carrier.requires_grad_(False)

    def _encoded_prompts(
        self, prompt: str, negative_prompt: str | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        """Return the guided and, with a negative prompt, the unguided stream ``prompt_embeds [1, L, D]``."""
        with self._encoding():
            embeds, negative_embeds = self.pipeline.encode_prompt(
                prompt,
                negative_prompt,
                do_classifier_free_guidance=negative_prompt is not None,
                max_sequence_length=PROMPT_TOKENS,
                device=self.device,
            )
        negative = None if negative_embeds is None else {"prompt_embeds": negative_embeds.to(self.dtype)}
        return {"prompt_embeds": embeds.to(self.dtype)}, negative

    @torch.no_grad()
    def encode_video(self, video: np.ndarray) -> Tensor:
        self._checked_size(video)
        pixels = self.pipeline.video_processor.preprocess_video([Image.fromarray(picture) for picture in video])
        latents: Tensor = self.pipeline.vae.encode(pixels.to(self.device)).latent_dist.mode()
        return (latents - self._mean) * self._inverse_std

    def latent_shape(self, conditioning: Conditioning) -> tuple[int, int, int, int]:
        _, _, frames, height, width = conditioning.streams()[self.conditions].shape
        return self._mean.shape[1], frames, height, width

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        latents = latents[:, :, REFERENCE_FRAMES:].to(self.device, torch.float32)
        latents = latents / self._inverse_std + self._mean
        # One by one: a batch needs more memory in the decoder and is not faster.
        videos = [self._decoded(sample) for sample in latents.split(1)]
        if not all(torch.isfinite(video).all() for video in videos):
            raise FloatingPointError(
                "the VAE gave pixels that are NaN or infinite; see whether its weights are damaged"
            )
        pixels = ((torch.cat(videos) / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 4, 1).cpu().numpy()

    def _decoded(self, latents: Tensor) -> Tensor:
        """Decode one sample, in overlapping tiles when the whole does not fit."""
        vae = self.pipeline.vae
        try:
            whole: Tensor = vae.decode(latents, return_dict=False)[0]
            return whole
        except torch.OutOfMemoryError:
            if vae.use_tiling:
                raise
            log.warning("the codec does not fit into the GPU's memory; it decodes in overlapping tiles from here on")
        # Not inside `except`: the error keeps the failed decoding's tensors alive.
        torch.cuda.empty_cache()
        vae.enable_tiling()
        return self._decoded(latents)

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


def _without_weights(part: Path) -> torch.nn.Module:
    config = read_json(part / "config.json")
    built: torch.nn.Module = getattr(diffusers, config["_class_name"]).from_config(config)
    return built


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
    shown = [one for one in loggings if one.is_progress_bar_enabled()]
    for one in shown:
        one.disable_progress_bar()
    try:
        yield
    finally:
        for one in shown:
            one.enable_progress_bar()
