"""Decides which clips are kept for evaluation."""

from __future__ import annotations

import blake3

from ipa_core.records import Split


def split_of(group: str, held_out: float) -> Split:
    """Return ``held_out`` for about that share of all groups, by the group's hash. A group never changes sides when
    others come or go, and a larger share only adds groups."""
    fraction = int.from_bytes(blake3.blake3(group.encode()).digest()[:8]) / 2**64
    return "held_out" if fraction < held_out else "train"
