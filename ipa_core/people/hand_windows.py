"""Renders close pictures of gesturing hands: the same motion of two performers, each hand in its own window.

A window shows one hand in the same size in all frames, so hands of any size in pixels come from one rendering. Skin,
gloves, sleeves, bare arms and the direction of view are drawn from the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ipa_core import keypoints as kp
from ipa_core.people.body import BodyModel, DressedBody, PosedBody, body_model
from ipa_core.people.motion import gesture
from ipa_core.people.performers import Colour, Performer, random_performer
from ipa_core.people.render import Camera, backdrop, camera_position, dressed, render_frame
from ipa_core.records import Side

MARGIN = 2.6
"""Side of a window in hand sizes (longer side of the box of the hand's points, 75th percentile of the clip)."""
_GLOVES, _SLEEVES, _BARE_ARMS = 0.12, 0.3, 0.25
_YAW = 0.6
"""Largest turn of the person to the side, radians."""


@dataclass(frozen=True, eq=False)
class HandWindows:
    """One hand of one performer. frames: uint8 RGB ``[T, H, H, 3]``; points: ``[T, 21, 2]`` joints of the skeleton in
    pixels; outside: bool ``[T, H, H]``, where the picture shows the backdrop."""

    side: Side
    frames: np.ndarray
    points: np.ndarray
    outside: np.ndarray


def render_hands(
    seed: int, *, size: int, frames: int, fps: float, sides: Sequence[Side] = ("left", "right")
) -> list[list[HandWindows]]:
    """Render one motion as two performers make it: for each side a list with one entry per performer. ``size``: side
    of the square windows in pixels; hands are ``size / MARGIN`` large. The result follows from the arguments alone."""
    model = body_model()
    rng = np.random.default_rng([seed, 21])
    times = np.arange(frames) / fps
    yaw = rng.uniform(-_YAW, _YAW)
    shown: list[list[HandWindows]] = [[] for _ in sides]
    rotations = None
    for number in range(2):
        performer = random_performer(seed * 4 + number)
        body = _worn(model, performer, rng)
        if rotations is None:
            rotations = gesture(model, body, rng, times)
        posed = _turned(model.pose(body, rotations), yaw)
        for windows, side in zip(shown, sides, strict=True):
            windows.append(_window(model, body, performer, posed, side, size))
    return shown


def _worn(model: BodyModel, performer: Performer, rng: np.random.Generator) -> DressedBody:
    def colour(share: float) -> Colour | None:
        red, green, blue = rng.uniform(0.04, 0.96, 3)
        return (red, green, blue) if rng.random() < share else None

    gloves, sleeves = colour(_GLOVES), colour(_SLEEVES)
    bare = bool(rng.random() < _BARE_ARMS)
    return model.rewear(dressed(model, performer), gloves=gloves, sleeves=sleeves, bare_arms=bare)


def _turned(posed: PosedBody, yaw: float) -> PosedBody:
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return replace(posed, vertices=(posed.vertices @ turn).astype(np.float32), keypoints=posed.keypoints @ turn)


def _window(
    model: BodyModel, body: DressedBody, performer: Performer, posed: PosedBody, side: Side, size: int
) -> HandWindows:
    camera = Camera(camera_position(model, body), 1)
    hand = camera.project(posed.keypoints[:, kp.HANDS[side]])[0]
    zoom = 1 / (MARGIN * float(np.percentile(np.ptp(hand, axis=1).max(axis=1), 75)))
    background = backdrop(performer, size)
    frames, points, outside = [], [], []
    for vertices, joints, place in zip(posed.vertices, posed.keypoints[:, kp.HANDS[side]], hand, strict=True):
        x, y = (place.min(axis=0) + place.max(axis=0)) / 2 - 0.5
        near = replace(camera, size=size, zoom=zoom, centre=(float(x), float(y)))
        picture, _, depth = render_frame(model, body, vertices, near, background)
        frames.append(picture)
        points.append(near.project(joints)[0])
        outside.append(~np.isfinite(depth))
    return HandWindows(side, np.stack(frames), np.stack(points), np.stack(outside))
