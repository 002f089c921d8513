"""The seam of the animation models: all that generation, alignment, evaluation and the flow ask of one.

A model is a folder beside this file and a line in :data:`ipa_core.models.kinds.KINDS`. Its :class:`ModelKind` says what
is known without its weights and loads no torch; the kind loads its :class:`AnimationModel`.

``t = 1`` is pure noise. Latents are normalised: ``(z - latents_mean) / latents_std``, reference frames in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ipa_core.config import AlignmentConfig, CandidatesConfig, ConfigError, DType, RunConfig

if TYPE_CHECKING:
    import numpy as np
    import torch
    from peft import LoraConfig
    from torch import Tensor

    from ipa_core.models.conditioning import Conditioning as Conditioning

LORA_FILE: Final = "pytorch_lora_weights.safetensors"
"""The file of a LoRA that :meth:`ModelKind.load` takes, named as diffusers names it. Every model writes it."""


class UnknownModel(ConfigError):  # noqa: N818 - read aloud as it is
    """``candidates.model.path`` names a model folder that no kind can load. The message lists the known ones."""


class Scheduler(Protocol):
    """Steps of a diffusers scheduler, from noise to the clean sample. It has a state: one for each loop."""

    @property
    def timesteps(self) -> Tensor:
        """``[steps]`` in [0, 1000], falling: 1000 t."""

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None: ...

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, *, return_dict: bool) -> tuple[Tensor, ...]:
        """The sample at the next timestep is the first of the result, where ``return_dict`` is False."""


class AnimationModel(Protocol):
    """A pretrained flow-matching model that animates a reference image with a control video; it is loaded."""

    transformer: torch.nn.Module
    """The part that a LoRA is put on: a diffusers model with ``PeftAdapterMixin``. A training wraps it for a while."""
    device: torch.device
    dtype: torch.dtype

    @property
    def blocks(self) -> tuple[str, ...]:
        """Class names of the transformer's repeated blocks, which hold nearly all of its weights. FSDP splits each."""

    def encode_conditioning(
        self,
        control_video: np.ndarray,
        reference: np.ndarray,
        prompt: str,
        negative_prompt: str | None,
    ) -> Conditioning:
        """``control_video`` uint8 ``[T, H, W, 3]``, ``reference`` uint8 ``[H, W, 3]`` -> tensors on the model's device.

        ``negative_prompt`` None: no guidance, so ``unguided`` is None. Raises ``ValueError`` where the video's size
        does not fit the model.
        """

    def encode_video(self, video: np.ndarray) -> Tensor:
        """uint8 ``[T, H, W, 3]`` -> normalised latents ``[1, C, T', h, w]`` float32, without reference frames.

        Raises ``ValueError`` where the video's size does not fit the model.
        """

    def latent_shape(self, conditioning: Conditioning) -> tuple[int, int, int, int]:
        """``(C, R + T', h, w)`` of one sample's latents."""

    def velocity(self, latents: Tensor, t: Tensor, streams: Mapping[str, Tensor]) -> Tensor:
        """``latents [B, C, R + T', h, w]``, ``t [B]`` in [0, 1] -> predicted ``noise - clean`` of the latents' shape.

        ``streams``: those of :meth:`Conditioning.streams`, each ``[B, ...]``. With gradients where they are on.
        """

    def decode(self, latents: Tensor) -> np.ndarray:
        """Latents ``[B, C, R + T', h, w]`` -> uint8 ``[B, T, H, W, 3]``; the reference frames are dropped."""

    def scheduler(self, config: CandidatesConfig) -> Scheduler:
        """A new scheduler by ``scheduler`` and ``shift`` of the config."""

    def lora_targets(self, config: AlignmentConfig) -> str:
        """The layers that get a LoRA, as a regular expression over full module names.

        A string, since peft would store a list as a set, whose order differs from process to process.
        """

    def lora_files(self, state: Mapping[str, Tensor], adapter: LoraConfig) -> dict[str, bytes]:
        """The files of a trained LoRA by name; :data:`LORA_FILE` is one of them. The same LoRA gives the same bytes.

        ``state``: its tensors on the CPU, by peft's names (``blocks.0.attn1.to_q.lora_A.weight``). ``adapter``: its
        configuration; rank and alpha are ``r`` and ``lora_alpha``.
        """


class Network(Protocol):
    """A network of known size: how many floating point operations of a GPU its work takes, by formula."""

    def candidate_flops(self, config: RunConfig) -> float:
        """Of generating one video."""

    def forward_flops(self, config: RunConfig) -> float:
        """Of one forward pass for one sample: also what the reference's error costs for one draw of the training."""

    def training_flops(self, config: RunConfig) -> float:
        """Of the whole training with the reference's errors at hand."""


class ModelKind(Protocol):
    """A kind of model: what is known of it without its weights. Only :meth:`load` imports torch."""

    @property
    def pipeline(self) -> str:
        """The ``_class_name`` in the ``model_index.json`` of its folders. No two kinds have the same."""

    @property
    def downloads(self) -> Mapping[str, str]:
        """Sizes of the downloads by hub id, to be read (``about 19 GB``)."""

    def check_index(self, index: Mapping[str, Any], folder: Path) -> None:
        """Raises :class:`UnknownModel` where a ``model_index.json`` of this class names a model that it can't run."""

    def check(self, config: RunConfig) -> None:
        """Raises ``ConfigError`` for fields that this kind can't take, beyond what the config itself refuses."""

    def load(
        self, folder: Path, *, dtype: DType, device: str, lora: Path | bytes | None = None, text_encoder: bool = True
    ) -> AnimationModel:
        """Load a pipeline folder, all gradients off.

        ``lora``: a folder with :data:`LORA_FILE`, such a file, or its bytes. ``text_encoder`` False leaves the text
        encoder out: training needs none, its prompts are encoded already. Raises ``ValueError`` where the LoRA is none
        for this model.
        """

    def network(self, path: str) -> Network | None:
        """The network that a hub id names, or a folder called like its last part; None: its size is not known."""

    def card(self, config: AlignmentConfig, base_model: str, samples: int) -> str:
        """The model card of a LoRA, Markdown. ``base_model`` is a hub id or a name, not a path."""
