"""What a run on a Wan-VACE model costs in GPU work, by formula: floating point operations of the transformer.

With N latent tokens, width d, feed-forward width f and M prompt tokens, one block's forward pass takes

    products with weights    N (12 d^2 + 4 d f) + 4 M d^2
    attention                4 N^2 d + 4 N M d

(q, k, v, o of self-attention, q and o of cross-attention, the feed-forward layers, k and v of the prompt; scores and
the values weighted by them), counting a multiplication and an addition as two. Left out, together a few per cent: the
codec, the text encoder, embeddings, norms and the LoRA's own products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ipa_core.config import AlignmentConfig, ClipsConfig, RunConfig
from ipa_core.models.cost import ASSUMED_FLOPS as ASSUMED_FLOPS
from ipa_core.models.cost import gpu_hours as gpu_hours

ATTENTION_BACKWARD: Final = 2.5
"""Backward over forward of fused attention, which computes its scores again: five matrix products for two."""
_PROMPT_TOKENS: Final = 512
_REFERENCE_FRAMES: Final = 1


@dataclass(frozen=True)
class Network:
    """The sizes of a Wan-VACE transformer that its cost follows from; a :class:`~ipa_core.models.animation.Network`."""

    layers: int
    control_layers: int
    """Blocks of the control branch, beside the main ones."""
    dim: int
    ffn_dim: int

    def candidate_flops(self, config: RunConfig) -> float:
        return candidate_flops(self, config)

    def forward_flops(self, config: RunConfig) -> float:
        return forward_flops(self, config.clips)

    def training_flops(self, config: RunConfig) -> float:
        return training_flops(self, config)


NETWORKS: Final = {
    "Wan2.1-VACE-1.3B-diffusers": Network(layers=30, control_layers=15, dim=1536, ffn_dim=8960),
    "Wan2.1-VACE-14B-diffusers": Network(layers=40, control_layers=8, dim=5120, ffn_dim=13824),
}
"""By the last part of the hub id, which is what a downloaded folder is called too."""


def network_of(path: str) -> Network | None:
    """The network that a hub id or the path of a folder names; None for one whose sizes are not known here."""
    return NETWORKS.get(path.rstrip("/").rpartition("/")[2])


def latent_tokens(clips: ClipsConfig) -> int:
    """Tokens of one sample: 4 frames and 16 x 16 pixels make one, and the reference image is a frame of its own."""
    frames = (clips.frames - 1) // 4 + 1 + _REFERENCE_FRAMES
    return frames * (clips.height // 16) * (clips.width // 16)


def candidate_flops(network: Network, config: RunConfig) -> float:
    """Of generating one video: a forward pass for each step, two with classifier-free guidance."""
    passes = config.candidates.steps * (2 if config.candidates.guidance_scale > 1 else 1)
    return passes * forward_flops(network, config.clips)


def forward_flops(network: Network, clips: ClipsConfig) -> float:
    """Of one forward pass for one sample: also what the reference's error costs for one draw of the training."""
    main, control = _passes(network, latent_tokens(clips), _PROMPT_TOKENS)
    return main.forward + control.forward


def training_flops(network: Network, config: RunConfig) -> float:
    """Of the whole training with the reference's errors at hand: its steps times its samples a step."""
    learn_once = sample_flops(network, config.clips, config.alignment)
    return config.alignment.steps * config.alignment.batch_size * learn_once


def sample_flops(network: Network, clips: ClipsConfig, alignment: AlignmentConfig) -> float:
    """Of learning from one sample once, its reference's error at hand."""
    return _sample_flops(*_passes(network, latent_tokens(clips), _PROMPT_TOKENS), alignment)


def _sample_flops(main: _Pass, control: _Pass, alignment: AlignmentConfig) -> float:
    forward = main.forward + control.forward
    # The control branch does not see the main blocks: without a LoRA of its own no gradient runs through it.
    parts = (main, control) if alignment.vace_blocks else (main,)
    recomputed = sum(part.forward for part in parts) if alignment.gradient_checkpointing else 0.0
    # The weights are frozen: of a product with them, only the gradient of its input is computed.
    backward = sum(part.products + ATTENTION_BACKWARD * part.attention for part in parts)
    return forward + recomputed + backward


@dataclass(frozen=True)
class _Pass:
    """Operations of one forward pass through some blocks."""

    products: float
    attention: float

    @property
    def forward(self) -> float:
        return self.products + self.attention


def _passes(network: Network, tokens: int, prompt_tokens: int) -> tuple[_Pass, _Pass]:
    """Of the main blocks and of the control branch."""
    dim, n, m = network.dim, tokens, prompt_tokens
    products = n * (12 * dim**2 + 4 * dim * network.ffn_dim) + 4 * m * dim**2
    attention = 4 * n**2 * dim + 4 * n * m * dim
    # One product more goes into the branch, and one from each of its blocks to a main block.
    joints = (network.control_layers + 1) * 2 * n * dim**2
    return (
        _Pass(network.layers * products, network.layers * attention),
        _Pass(network.control_layers * products + joints, network.control_layers * attention),
    )
