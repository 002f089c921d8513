"""People of earlier rounds: held-out people stay out of every training set, and trained-on people judge nothing.

A person is a clip's group. The registry keeps groups and source videos, so a person stays known when a metadata table
renames the group: then all clips of the new group are that person's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ipa_core.records import Clip


def people_of(clips: Iterable[Clip]) -> tuple[str, ...]:
    """Return groups and source videos of these clips, as the registry keeps them."""
    return tuple(sorted({mark for clip in clips for mark in (clip.group, clip.source)}))


def seen_people(clips: Iterable[Clip], seen: Mapping[str, str]) -> dict[str, str]:
    """Return today's groups that ``seen`` (group or source -> run) knows, with the run. clips: all clips of today."""
    found: dict[str, str] = {}
    for clip in clips:
        for mark in (clip.group, clip.source):
            if mark in seen:
                found.setdefault(clip.group, seen[mark])
    return found
