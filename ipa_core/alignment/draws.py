"""Every random number of a training run, as a function of (seed, sample, epoch).

Nothing depends on a sample's place in a list, on the batch size, on the number of samples or on how often the run was
interrupted; so a resumed run repeats an uninterrupted one, and reference errors can be computed ahead by anybody.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from blake3 import blake3
from torch import Tensor

from ipa_core.records import Digest


def random_source(*parts: object) -> torch.Generator:
    """A generator on the CPU, which gives the same numbers whatever the model's device, seeded by the parts' text.

    PyTorch uses 32 bits of a seed: in a very long run two draws may coincide, which does no harm.
    """
    seed = int.from_bytes(blake3("/".join(map(str, parts)).encode()).digest(4), "little")
    return torch.Generator().manual_seed(seed)


def draw(seed: int, sample_digest: Digest, epoch: int, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """``(noise, t)`` of one visit: noise ~ N(0, 1) float32 of ``shape``, t ~ U(0, 1) float32, a scalar.

    t is drawn first, so it does not depend on the shape.
    """
    source = random_source("draw", seed, sample_digest, epoch)
    t = torch.rand((), generator=source)
    return torch.randn(tuple(shape), generator=source), t
