"""The GPU work of a run on a Wan-VACE model, by formula: floating point operations of the transformer.

With N latent tokens, width d, feed-forward width f and M prompt tokens, one block's forward pass takes

    products with weights    N (12 d^2 + 4 d f) + 4 M d^2
    attention                4 N^2 d + 4 N M d

The products are q, k, v, o of self-attention, q and o of cross-attention, the feed-forward layers, and k and v of the
prompt. Attention is the scores and the values weighted by them. A multiplication and an addition count as two. The
formula leaves out a few per cent: the codec, the text encoder, embeddings, norms and the LoRA's own products.

Memory is by formula too, in bfloat16: two bytes a weight, and bytes per token and channel that were counted on shapes
at 81 frames of 480 x 832. The text encoder and the idle one of two experts wait in main memory where
there is little room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ipa_core.config import AlignmentConfig, ClipsConfig, RunConfig

ATTENTION_BACKWARD: Final = 2.5
"""Backward over forward work of fused attention, which computes its scores again: five matrix products over two."""
_PROMPT_TOKENS: Final = 512
_FORWARD_BYTES: Final = 40.3
"""Of activations in a forward pass without gradient, per token and channel: 6.6 GiB for one seed of the 14B."""
_BACKWARD_BYTES: Final = 54.0
"""Of activations that a block keeps for its backward pass, per token and channel."""
_CODEC_BYTES: Final = 0.5 * 2**30
_REFERENCE_FRAMES: Final = 1


@dataclass(frozen=True)
class Network:
    """The sizes that decide the cost of a Wan-VACE transformer; a :class:`~ipa_core.models.animation.Network`."""

    layers: int
    control_layers: int
    """Blocks of the control branch, in addition to the main blocks."""
    dim: int
    ffn_dim: int
    experts: int = 1
    """Transformers of these sizes. Each step runs one."""

    def candidate_flops(self, config: RunConfig) -> float:
        """Return the operations to generate one video: one forward pass a step, two with classifier-free guidance."""
        return sum(config.candidates.passes) * self.forward_flops(config)

    def forward_flops(self, config: RunConfig) -> float:
        """Return the operations of one forward pass for one sample, which are also those of one reference error."""
        main, control = self.passes(latent_tokens(config.clips))
        return main.forward + control.forward

    def training_flops(self, config: RunConfig) -> float:
        """Return the operations of the whole training, without those of reference errors that are computed ahead."""
        alignment = config.alignment
        frozen = self.forward_flops(config) if alignment.needs_reference_velocity else 0.0
        return alignment.steps * alignment.batch_size * (self.sample_flops(config) + frozen)

    def sample_flops(self, config: RunConfig) -> float:
        """Return the operations to learn once from one sample, without those of its reference error."""
        return _sample_flops(*self.passes(latent_tokens(config.clips)), config.alignment)

    @property
    def weights_bytes(self) -> float:
        """Bytes of all transformers' weights, in bfloat16."""
        block = 8 * self.dim**2 + 2 * self.dim * self.ffn_dim
        joints = (self.control_layers + 1) * self.dim**2 if self.control_layers else 0
        # Six modulations are made of the time, and the prompt's embedding has two layers.
        embeddings = 6 * self.dim**2 + 2 * 4096 * self.dim
        return 2 * self.experts * ((self.layers + self.control_layers) * block + joints + embeddings)

    def generation_bytes(self, config: RunConfig, seeds: int) -> float:
        """Return the GPU memory to sample so many seeds at once."""
        activations = _FORWARD_BYTES * latent_tokens(config.clips) * self.dim
        weights = self.weights_bytes / self.experts / (1 if config.candidates.model.quantization is None else 2)
        return weights + _CODEC_BYTES + seeds * activations

    def training_bytes(self, config: RunConfig) -> float:
        """Return the GPU memory of one process that trains one part of a batch."""
        alignment, processes = config.alignment, config.execution.train_processes
        part = alignment.batch_size // alignment.accumulation // processes
        blocks = self.layers + self.control_layers
        kept = 2 * blocks + _BACKWARD_BYTES if alignment.gradient_checkpointing else _BACKWARD_BYTES * blocks
        projections = 6 if alignment.targets == "self_cross" else 3
        adapted = (blocks if alignment.vace_blocks else self.layers) * projections
        # Weight, gradient and two moments of each parameter, in float32.
        lora = 16 * adapted * 2 * self.dim * alignment.rank
        held = (self.weights_bytes / self.experts + lora) / (
            processes if config.execution.train_strategy == "fsdp2" else 1
        )
        return held + _CODEC_BYTES + part * kept * latent_tokens(config.clips) * self.dim

    def passes(self, tokens: int, prompt_tokens: int = _PROMPT_TOKENS) -> tuple[Pass, Pass]:
        """Return the forward passes of the main blocks and of the control branch over one sample."""
        dim, n, m = self.dim, tokens, prompt_tokens
        products = n * (12 * dim**2 + 4 * dim * self.ffn_dim) + 4 * m * dim**2
        attention = 4 * n**2 * dim + 4 * n * m * dim
        # One more product leads into the branch, and one leads from each of its blocks to a main block.
        joints = (self.control_layers + 1) * 2 * n * dim**2 if self.control_layers else 0.0
        return (
            Pass(self.layers * products, self.layers * attention),
            Pass(self.control_layers * products + joints, self.control_layers * attention),
        )


@dataclass(frozen=True)
class Pass:
    """Operations of one forward pass through some blocks."""

    products: float
    attention: float

    @property
    def forward(self) -> float:
        return self.products + self.attention


def _sample_flops(main: Pass, control: Pass, alignment: AlignmentConfig) -> float:
    # The control branch does not see the main blocks: unless it has a LoRA, no gradient runs through it.
    parts = (main, control) if alignment.vace_blocks else (main,)
    recomputed = sum(part.forward for part in parts) if alignment.gradient_checkpointing else 0.0
    # The weights are frozen, so a product with them needs only the gradient of its input.
    backward = sum(part.products + ATTENTION_BACKWARD * part.attention for part in parts)
    return main.forward + control.forward + recomputed + backward


NETWORKS: Final = {
    "Wan2.1-VACE-1.3B-diffusers": Network(layers=30, control_layers=15, dim=1536, ffn_dim=8960),
    "Wan2.1-VACE-14B-diffusers": Network(layers=40, control_layers=8, dim=5120, ffn_dim=13824),
    # A step runs one of its two experts, each of the size of the Wan 2.1 model.
    "Wan2.2-VACE-Fun-14B-diffusers": Network(layers=40, control_layers=8, dim=5120, ffn_dim=13824, experts=2),
}
"""Networks by the last part of the hub id, which is also the name of a downloaded folder."""


def network_of(path: str) -> Network | None:
    """Return the network that a hub id or a folder's path names; None when its sizes are not known here."""
    return NETWORKS.get(path.rstrip("/").rpartition("/")[2])


def latent_tokens(clips: ClipsConfig) -> int:
    """Count a sample's tokens: 4 frames of 16 x 16 pixels make one, and the reference image is a frame of its own."""
    frames = (clips.frames - 1) // 4 + 1 + _REFERENCE_FRAMES
    return frames * (clips.height // 16) * (clips.width // 16)
