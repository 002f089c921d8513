"""The GPU work and memory of a run on Wan-Animate, by the formula of :mod:`ipa_core.models.wan_vace.cost`.

Behind every fifth block the face is attended to, whose queries and outputs are two more products per token. The motion
encoder, which looks at the face crops, and keys and values of the image are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ipa_core.models.wan_vace.cost import Network, Pass

_BLOCKS_PER_FACE: Final = 5


@dataclass(frozen=True)
class AnimateNetwork(Network):
    """The sizes of a Wan-Animate transformer; a :class:`~ipa_core.models.animation.Network`."""

    @property
    def weights_bytes(self) -> float:
        faces = self.layers // _BLOCKS_PER_FACE
        # Each block has keys and values of the image, too.
        return super().weights_bytes + 2 * (2 * self.layers + 4 * faces) * self.dim**2

    def passes(self, tokens: int, prompt_tokens: int = 512) -> tuple[Pass, Pass]:
        main, control = super().passes(tokens, prompt_tokens)
        faces = self.layers // _BLOCKS_PER_FACE * 4 * tokens * self.dim**2
        return Pass(main.products + faces, main.attention), control


NETWORKS: Final = {"Wan2.2-Animate-14B-Diffusers": AnimateNetwork(layers=40, control_layers=0, dim=5120, ffn_dim=13824)}


def network_of(path: str) -> AnimateNetwork | None:
    """Return the network that a hub id or a folder's path names; None when its sizes are not known here."""
    return NETWORKS.get(path.rstrip("/").rpartition("/")[2])
