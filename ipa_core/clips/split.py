"""Decides which clips are kept for evaluation."""

from __future__ import annotations

import re

import blake3

from ipa_core.records import Split


def group_of(path: str, group_by: str) -> str | None:
    """Return the group of a video by its path or URL, as ``clips.group_by`` says. None: the video is its own group."""
    if group_by == "file":
        return None
    if group_by == "folder":
        return path.rstrip("/").split("/")[-2] if "/" in path else None
    found = re.search(group_by, path)
    return found[1] if found else None


def split_of(group: str, held_out: float) -> Split:
    """Return ``held_out`` for about that share of all groups, by the group's hash. A group never changes sides when
    others come or go, and a larger share only adds groups."""
    fraction = int.from_bytes(blake3.blake3(group.encode()).digest()[:8]) / 2**64
    return "held_out" if fraction < held_out else "train"
