"""The random numbers of a training run: a function of (seed, sample, epoch).

They do not depend on a sample's position, the batch size, the number of samples or interruptions of the run. Therefore
a resumed run repeats an uninterrupted one, and any process can compute reference errors ahead.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from blake3 import blake3
from torch import Tensor

from ipa_core.records import Digest


def random_source(*parts: object) -> torch.Generator:
    """Return a random source seeded by the parts' text. It is on the CPU, so every device gets the same numbers.

    PyTorch uses 32 bits of a seed. In a very long run two draws may therefore be equal; equal draws do no harm.
    """
    seed = int.from_bytes(blake3("/".join(map(str, parts)).encode()).digest(4), "little")
    return torch.Generator().manual_seed(seed)


def draw(seed: int, sample_digest: Digest, epoch: int, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return ``(noise, t)`` of one visit: noise ~ N(0, 1) float32 of ``shape``, t ~ U(0, 1) float32, a scalar.

    t is drawn first, so it does not depend on the shape.
    """
    source = random_source("draw", seed, sample_digest, epoch)
    t = torch.rand((), generator=source)
    return torch.randn(tuple(shape), generator=source), t
