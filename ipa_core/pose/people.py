"""Choose the main person of a clip from the people of its pictures, for every backend in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ipa_core import keypoints as kp
from ipa_core.config import PosesConfig
from ipa_core.pose.extractor import PersonBox
from ipa_core.records import Box, ConfidenceSource, PoseSequence, Rejected

SEEN = 0.3
"""Body points with at least this confidence span a person's box."""
LEAST_POINTS = 4
"""Fewer body points are no person."""
SAME_PERSON = 0.5
"""Two boxes of one picture that overlap by more (intersection over union) are the same person found twice."""


@dataclass(frozen=True, eq=False)
class Person:
    """One person in one picture: ``keypoints [133, 2]`` in pixels, ``confidence [133]``, and the ``box`` of the body
    points inside the picture."""

    keypoints: np.ndarray
    confidence: np.ndarray
    box: Box

    @property
    def body_confidence(self) -> float:
        """Mean over the 17 body points."""
        return float(self.confidence[kp.BODY].mean())


def person(keypoints: np.ndarray, confidence: np.ndarray, width: int, height: int) -> Person | None:
    """Make a person, or ``None`` when too few sure body points lie in the picture."""
    body = keypoints[kp.BODY]
    inside = ((body >= 0) & (body <= (width, height))).all(axis=1)
    points = body[inside & (confidence[kp.BODY] >= SEEN)]
    if len(points) < LEAST_POINTS:
        return None
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return Person(keypoints, confidence, Box(x=left, y=top, width=right - left, height=bottom - top))


def distinct(people: Sequence[Person]) -> list[Person]:
    """Return each person once, as the surest of several finds; largest first."""
    kept: list[Person] = []
    for found in sorted(people, key=lambda one: -one.body_confidence):
        if all(_overlap(found.box, other.box) <= SAME_PERSON for other in kept):
            kept.append(found)
    return sorted(kept, key=_area, reverse=True)


def boxes(people: Sequence[Person]) -> list[PersonBox]:
    return [PersonBox(one.box, min(1.0, one.body_confidence)) for one in people]


def main_person(frames: Sequence[Sequence[Person]], config: PosesConfig, height: int) -> list[Person | None]:
    """Choose the person to animate in each frame, ``None`` in frames without the person. Raises :class:`Rejected`."""
    if not any(frames):
        raise Rejected("no person found")
    chosen: list[Person | None]
    if config.person == "largest":
        chosen = [max(people, key=_area) if people else None for people in frames]
    else:
        track = max(_tracks(frames), key=lambda one: (len(one), sum(_area(seen) for seen in one.values())))
        chosen = [track.get(index) for index in range(len(frames))]
    found = [one for one in chosen if one is not None]
    share = float(np.median([one.box.height for one in found])) / height
    if share < config.min_person_height:
        needed = _percent(config.min_person_height)
        raise Rejected(f"person too small: {_percent(share)} of the picture's height, {needed} needed")
    if len(found) < config.min_frames_found * len(frames):
        needed = _percent(config.min_frames_found)
        raise Rejected(f"person found in {len(found)} of {len(frames)} frames, {needed} needed")
    return chosen


def sequence(
    people: Sequence[Person | None], width: int, height: int, hand_confidence: ConfidenceSource, backend: str
) -> PoseSequence:
    """Make a pose sequence. Points that were not found are 0, 0 with confidence 0."""
    keypoints = np.zeros((len(people), kp.COUNT, 2), np.float32)
    confidence = np.zeros((len(people), kp.COUNT), np.float32)
    for index, one in enumerate(people):
        if one is not None:
            keypoints[index], confidence[index] = one.keypoints, one.confidence
    keypoints[confidence <= 0] = 0
    return PoseSequence(keypoints, confidence.clip(0, 1), width, height, hand_confidence, backend)


def _tracks(frames: Sequence[Sequence[Person]]) -> list[dict[int, Person]]:
    """Follow people over the frames. Each track maps frame numbers to one person."""
    tracks: list[dict[int, Person]] = []
    for index, people in enumerate(frames):
        free, waiting = list(tracks), list(people)
        pairs = [(_distance(_last(track).box, one.box), track, one) for track in free for one in waiting]
        for distance, track, one in sorted(pairs, key=lambda pair: pair[0]):
            near = distance < 0.5 or _overlap(_last(track).box, one.box) > 0.2
            if near and any(track is other for other in free) and any(one is other for other in waiting):
                track[index] = one
                free = [other for other in free if other is not track]
                waiting = [other for other in waiting if other is not one]
        tracks += [{index: one} for one in waiting]
    return tracks


def _last(track: dict[int, Person]) -> Person:
    return next(reversed(track.values()))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _area(one: Person) -> float:
    return one.box.width * one.box.height


def _distance(a: Box, b: Box) -> float:
    """Return the distance between the centres, in heights of the taller box."""
    across = a.x + a.width / 2 - b.x - b.width / 2
    down = a.y + a.height / 2 - b.y - b.height / 2
    return float(np.hypot(across, down)) / max(a.height, b.height, 1e-6)


def _overlap(a: Box, b: Box) -> float:
    """Return intersection over union."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a.width * a.height + b.width * b.height - width * height)
