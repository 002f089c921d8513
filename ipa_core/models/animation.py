"""The interface of the animation models: everything that generation, alignment, evaluation and the flow ask of one.

A model is a folder beside this file and a line in :data:`ipa_core.models.kinds.KINDS`. Its :class:`ModelKind` holds the
facts that need no weights and loads no torch. The kind loads its :class:`AnimationModel`.

``t = 1`` is pure noise. Latents are normalised: ``(z - latents_mean) / latents_std``, reference frames in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ipa_core.config import (
    AlignmentConfig,
    CandidatesConfig,
    ConfigError,
    DrawingConfig,
    DType,
    Quantization,
    RunConfig,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from peft import LoraConfig
    from torch import Tensor

    from ipa_core.models.conditioning import Conditioning as Conditioning
    from ipa_core.models.group import Helpers, Seat
    from ipa_core.records import PoseSequence

LORA_FILE: Final = "pytorch_lora_weights.safetensors"
"""The file of a LoRA that :meth:`ModelKind.load` takes, with diffusers' name. Every model writes this file."""


class UnknownModel(ConfigError):  # noqa: N818 - the name is clear without Error
    """``candidates.model.path`` names a model folder that no kind can load. The message says which models load."""


class Scheduler(Protocol):
    """A diffusers scheduler, which steps from noise to the clean sample. It has a state, so each loop needs its own."""

    @property
    def timesteps(self) -> Tensor:
        """``[steps]`` in [0, 1000], falling. Each timestep is 1000 t."""

    def set_timesteps(self, num_inference_steps: int, *, device: torch.device) -> None: ...

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, *, return_dict: bool) -> tuple[Tensor, ...]:
        """Return the sample at the next timestep as the first element, when ``return_dict`` is False."""


@dataclass(frozen=True)
class Driving:
    """The driving clip. pose: the motion to draw. frames: returns the pictures, uint8 ``[T, H, W, 3]``; only some
    models look at them. found: the pose that the pictures show, where ``pose`` was changed since."""

    pose: PoseSequence
    frames: Callable[[], np.ndarray]
    found: PoseSequence | None = None


class AnimationModel(Protocol):
    """A loaded flow-matching model that animates a reference image with a control video."""

    transformer: torch.nn.Module
    """The part that carries a LoRA: a diffusers model with ``PeftAdapterMixin``. A training may wrap it for a while."""
    device: torch.device
    dtype: torch.dtype

    @property
    def how(self) -> Mapping[str, str]:
        """How it computes on this machine, for the record: kernels and places. It changes low bits at most."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """Class names of the transformer's repeated blocks, which hold nearly all weights. FSDP splits each block."""

    def draw(self, driving: Driving, drawing: DrawingConfig) -> Any:
        """Return what the model wants to see of the driving clip; :meth:`encode_conditioning` takes it, nobody else."""

    def encode_conditioning(
        self,
        control: Any,
        reference: np.ndarray,
        prompt: str,
        negative_prompt: str | None,
        before: np.ndarray | None = None,
    ) -> Conditioning:
        """Encode ``control`` and ``reference`` uint8 ``[H, W, 3]`` on the model's device.

        ``negative_prompt`` None means no guidance: ``unguided`` is None too. ``before`` uint8 ``[n, H, W, 3]``, n = 1
        or 5: the last frames of the segment in front of this one, which are this one's first frames. Raises
        ``ValueError`` when the video's size does not fit the model.
        """

    def encode_video(self, video: np.ndarray) -> Tensor:
        """Encode uint8 ``[T, H, W, 3]`` as normalised float32 latents ``[1, C, T', h, w]``, without reference frames.

        Raises ``ValueError`` when the video's size does not fit the model.
        """

    def latent_shape(self, conditioning: Conditioning) -> tuple[int, int, int, int]:
        """Return the shape ``(C, R + T', h, w)`` of one sample's latents."""

    def sampling(self) -> AbstractContextManager[None]:
        """Within the block :meth:`velocity` may use faster kernels, without gradient and right up to rounding.

        Training and its reference errors don't: they must agree with each other to the last bit.
        """

    def compile_blocks(self) -> None:
        """Compile the repeated blocks for :meth:`sampling`. Where that can't be, say so and go on without."""

    def spread(self, helpers: Helpers) -> None:
        """Within :meth:`sampling`, make each pass together with helpers, which start with the first one.

        Only for a kind with :meth:`ModelKind.heads`. Raises ``ConfigError`` when this machine can't.
        """

    def help(self, seat: Seat, orders: Iterable[str]) -> None:
        """Take part in the leader's passes, of which the orders tell, until there are no more."""

    def velocity(self, latents: Tensor, t: Tensor, streams: Mapping[str, Tensor]) -> Tensor:
        """Predict ``noise - clean`` in the shape of ``latents [B, C, R + T', h, w]``, for ``t [B]`` in [0, 1].

        ``streams`` come from :meth:`Conditioning.streams`, each ``[B, ...]``. Gradients follow torch's setting.
        """

    def decode(self, latents: Tensor) -> np.ndarray:
        """Decode latents ``[B, C, R + T', h, w]`` to uint8 ``[B, T, H, W, 3]``, without the reference frames."""

    def scheduler(self, config: CandidatesConfig) -> Scheduler:
        """Return a new scheduler for ``scheduler`` and ``shift`` of the config."""

    def lora_targets(self, config: AlignmentConfig) -> str:
        """Return a regular expression over full module names for the layers that get a LoRA.

        peft would store a list as a set, whose order differs from process to process.
        """

    def t_range(self, config: AlignmentConfig) -> tuple[float, float]:
        """Return the range within [0, 1] from which a training draws t; (0, 1) for most models."""

    def lora_files(self, state: Mapping[str, Tensor], adapter: LoraConfig) -> dict[str, bytes]:
        """Return a trained LoRA's files by name, :data:`LORA_FILE` among them. The same LoRA gives the same bytes.

        ``state``: the LoRA's tensors on the CPU, by peft's names (``blocks.0.attn1.to_q.lora_A.weight``). ``adapter``:
        its configuration, with rank ``r`` and alpha ``lora_alpha``.
        """


class Network(Protocol):
    """A network of known size. Formulas give the floating point operations of its work on a GPU."""

    def candidate_flops(self, config: RunConfig) -> float:
        """Return the operations to generate one video."""

    def forward_flops(self, config: RunConfig) -> float:
        """Return the operations of one forward pass for one sample, which are also those of one reference error."""

    def training_flops(self, config: RunConfig) -> float:
        """Return the operations of the whole training, without those of the reference errors."""

    @property
    def weights_bytes(self) -> float:
        """Bytes of the weights that the GPU holds while it samples and trains."""

    def generation_bytes(self, config: RunConfig, seeds: int) -> float:
        """Return the GPU memory to sample so many seeds at once."""

    def training_bytes(self, config: RunConfig) -> float:
        """Return the GPU memory of one process that trains."""


class ModelKind(Protocol):
    """A kind of model: the facts that need no weights. Only :meth:`load` imports torch."""

    @property
    def pipeline(self) -> str:
        """The ``_class_name`` in the ``model_index.json`` of the kind's folders, different for every kind."""

    @property
    def downloads(self) -> Mapping[str, str]:
        """Sizes of the downloads by hub id, as text for people (``about 19 GB``)."""

    def check_index(self, index: Mapping[str, Any], folder: Path) -> None:
        """Raise :class:`UnknownModel` when a ``model_index.json`` of this class names a model that can't be run."""

    def load(
        self,
        folder: Path,
        *,
        dtype: DType,
        device: str,
        lora: Path | bytes | None = None,
        text_encoder: bool = True,
        quantization: Quantization | None = None,
    ) -> AnimationModel:
        """Load a pipeline folder with all gradients off.

        ``lora``: a folder with :data:`LORA_FILE`, such a file, or its bytes. ``text_encoder`` False leaves the text
        encoder out: training needs none, because its prompts are encoded already. ``quantization``: 8 bits for the
        weights of the repeated blocks, a LoRA apart, for sampling alone. Raises ``ValueError`` when the LoRA does not
        fit this model.
        """

    def combined_lora(self, folder: Path, loras: Sequence[tuple[bytes, float]]) -> bytes:
        """Return LoRA files, each with its weight, as one file for :meth:`load`, without reading the model's weights.

        Raises ``ConfigError`` when one is of another model, or can't be read whole.
        """

    def heads(self, folder: Path) -> int | None:
        """Return the number of attention heads, which several GPUs can share; None for a kind that can't be spread."""

    def network(self, path: str) -> Network | None:
        """Return the network that a hub id, or a folder named like its last part, means; None for an unknown size."""

    def card(self, config: AlignmentConfig, base_model: str, samples: int) -> str:
        """Return a LoRA's model card as Markdown. ``base_model`` is a hub id or a name, not a path."""
