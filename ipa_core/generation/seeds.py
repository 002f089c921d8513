"""The seeds of a clip's candidates."""

from __future__ import annotations

from blake3 import blake3

from ipa_core.records import Digest


def candidate_seed(clip_video: Digest, number: int, seed: int) -> int:
    """Return the seed of a clip's candidate ``number`` (from 0), in [0, 2**63).

    It follows from the clip's bytes and the run's ``seed``, so no other clip or candidate ever changes it.
    """
    digest = blake3(f"{clip_video} {number} {seed}".encode()).digest(length=8)
    return int.from_bytes(digest, "big") >> 1
