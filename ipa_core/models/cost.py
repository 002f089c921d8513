"""Convert operations to hours, for every kind of model."""

from __future__ import annotations

from typing import Final

ASSUMED_FLOPS: Final = 350e12
"""Assumed operations per second of one GPU: about the rate of an H200 in bfloat16 with the 1.3B's geometry at 33 frames
of 480 x 832 (343e12 in steps of SFT: benchmarks/ipa_step.py). An H100 has the same arithmetic units."""


def gpu_hours(flops: float) -> float:
    return flops / ASSUMED_FLOPS / 3600
