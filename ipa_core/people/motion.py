"""Draws random gestures: both hands in front of the chest, fingers moving between named hand shapes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ipa_core.people.body import SUFFIX, BodyModel, DressedBody
from ipa_core.records import Side

KEY_SECONDS = 0.6
"""Time from one key pose to the next."""

HAND_SHAPES = np.array(
    [
        [0.00, 0.00, 0.00, 0.00, 0.00],  # flat
        [0.10, 0.05, 0.05, 0.05, 0.10],  # relaxed flat
        [0.30, 0.40, 0.50, 0.60, 0.60],  # relaxed
        [0.20, 0.70, 0.70, 0.70, 0.70],  # half closed
        [0.80, 1.30, 1.35, 1.35, 1.30],  # fist
        [0.70, 0.00, 1.30, 1.35, 1.30],  # pointing
        [0.70, 0.00, 0.00, 1.30, 1.30],  # two fingers
        [0.70, 0.00, 0.00, 0.05, 1.25],  # three fingers
        [0.00, 1.30, 1.30, 1.30, 1.30],  # thumb up
        [0.60, 0.85, 0.30, 0.20, 0.20],  # thumb and index touch
        [0.10, 1.20, 1.25, 1.20, 0.10],  # thumb and little finger
    ]
)
"""Bend of thumb, index, middle, ring and little finger, in radians at the middle joint."""

_REST_BEND = -0.2  # anny's hands rest a little closed; this opens a "flat" hand fully
_BEND_SHARES = {1: (0.35, 0.7, 0.9), 2: (0.9, 1.1, 0.7)}  # shares of the three joints: thumb, other fingers


@dataclass(frozen=True, eq=False)
class ArmMotion:
    """One arm over T frames. Directions are ``[T, 3]``, of any length, in the world of the person's left arm (the right
    arm is its mirror image).

    palm: normal of the back of the hand. bend: ``[T, 5]`` as in HAND_SHAPES. spread: ``[T]`` radians between fingers.
    """

    upper_arm: np.ndarray
    forearm: np.ndarray
    hand: np.ndarray
    palm: np.ndarray
    bend: np.ndarray
    spread: np.ndarray


def random_arm(rng: np.random.Generator, times: np.ndarray) -> ArmMotion:
    """Draw a gesture in front of the chest. times: seconds ``[T]`` from 0."""
    keys = int(np.floor(times[-1] / KEY_SECONDS)) + 2
    phase = rng.uniform(0, 1)

    def wander(low: list[float], high: list[float], step: list[float] | float) -> np.ndarray:
        start = rng.uniform(low, high)
        path = start + np.concatenate([np.zeros((1, len(low))), rng.normal(0, step, (keys, len(low)))]).cumsum(axis=0)
        margin = 0.15
        return _between(np.clip(path, np.array(low) - margin, np.array(high) + margin), times, phase)

    shapes = HAND_SHAPES[rng.integers(len(HAND_SHAPES), size=keys + 1)]
    bend = np.clip(shapes + rng.normal(0, 0.06, shapes.shape), -0.1, 1.45)
    palm = wander([-0.4, -1.0, -0.3], [0.4, -0.8, 0.3], 0.15)
    if rng.uniform() < 0.2:  # the hand shows the camera its other side
        palm = palm * [1, -1, 1]
    return ArmMotion(
        upper_arm=wander([0.15, -0.60, -1.0], [0.38, -0.35, -0.85], 0.08),
        forearm=wander([-0.6, -0.5, 0.75], [-0.12, -0.2, 1.0], 0.12),
        hand=wander([-0.3, -0.2, 0.8], [0.3, 0.1, 1.0], 0.15),
        palm=palm,
        bend=_between(bend, times, phase),
        spread=_between(rng.uniform(0.02, 0.2, (keys + 1, 1)), times, phase)[:, 0],
    )


def gesture(model: BodyModel, body: DressedBody, rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Return bone rotations ``[T, J, 3, 3]`` of a person who gestures with both hands and moves the head a little."""
    rotations = np.tile(np.eye(3), (len(times), len(model.bone_index), 1, 1))
    for side in SUFFIX:
        arm = random_arm(rng, times)
        rig = ArmRig(model, body, side)
        for frame in range(len(times)):
            for bone, rotation in rig.rotations(arm, frame).items():
                rotations[frame, model.bone_index[bone]] = rotation
    nod = _between(rng.uniform(-0.15, 0.15, (len(times) + 2, 3)), times, 0.0)
    for frame, axis in enumerate(nod):
        rotations[frame, model.bone_index["head"]] = _rotation(axis)
        rotations[frame, model.bone_index["spine03"]] = _rotation(0.3 * axis)
    return rotations


class ArmRig:
    """Turns directions into the rotations of one arm's bones."""

    def __init__(self, model: BodyModel, body: DressedBody, side: Side) -> None:
        self._suffix = SUFFIX[side]
        self._mirror = np.array([1.0 if side == "left" else -1.0, 1.0, 1.0])
        head = {name: body.bones[index] for name, index in model.bone_index.items() if name.endswith(self._suffix)}

        def joint(name: str) -> np.ndarray:
            return head[f"{name}.{self._suffix}"]

        self._upper_arm = _unit(joint("lowerarm01") - joint("upperarm01"))
        self._forearm = _unit(joint("wrist") - joint("lowerarm01"))
        self._elbow_axis = _unit(np.cross(self._upper_arm, self._forearm))
        self._hand = _unit(joint("finger3-1") - joint("wrist"))
        towards_thumb = _unit(joint("finger2-1") - joint("finger5-1"))
        self._palm = _unit(np.cross(self._hand, towards_thumb) * self._mirror[0])
        self._finger_axes = {
            finger: _unit(np.cross(joint(f"finger{finger}-3") - joint(f"finger{finger}-1"), self._palm))
            for finger in range(2, 6)
        }
        # The thumb closes across the palm, about an axis between the palm's normal and the row of knuckles.
        thumb = _unit(joint("finger1-3") - joint("finger1-1"))
        self._finger_axes[1] = _unit(np.cross(thumb, 0.5 * self._palm - towards_thumb))

    def rotations(self, arm: ArmMotion, frame: int) -> dict[str, np.ndarray]:
        """Return the rotation of every bone of the arm and hand relative to its parent, by bone name."""
        upper_arm, forearm, hand, palm = (
            _unit(directions[frame] * self._mirror) for directions in (arm.upper_arm, arm.forearm, arm.hand, arm.palm)
        )
        elbow_axis = np.cross(upper_arm, forearm)
        upper = _basis(upper_arm, elbow_axis) @ _basis(self._upper_arm, self._elbow_axis).T
        swing = _shortest(self._upper_arm, upper_arm)
        lower = _basis(forearm, elbow_axis) @ _basis(self._forearm, self._elbow_axis).T
        wrist = lower.T @ _basis(hand, palm) @ _basis(self._hand, self._palm).T
        # The forearm takes part of the hand's turn, as in a real arm. A wrist that turns alone would look wrung.
        twist = float(cv2.Rodrigues(wrist)[0][:, 0] @ self._forearm)
        forearm_twist = _rotation(0.55 * twist * self._forearm)
        half = swing @ _rotation(0.5 * cv2.Rodrigues(swing.T @ upper)[0][:, 0])
        local = {
            "upperarm01": half,
            "upperarm02": half.T @ upper,
            "lowerarm01": upper.T @ lower,
            "lowerarm02": forearm_twist,
            "wrist": forearm_twist.T @ wrist,
        }
        for finger in range(1, 6):
            for joint, share in enumerate(_BEND_SHARES[min(finger, 2)], start=1):
                bend = arm.bend[frame, finger - 1] * share + (_REST_BEND if finger > 1 else 0.0)
                turn = _rotation(bend * self._finger_axes[finger])
                if finger > 1 and joint == 1:
                    turn = _rotation(arm.spread[frame] * (finger - 3.4) * self._mirror[0] * self._palm) @ turn
                local[f"finger{finger}-{joint}"] = turn
        return {f"{name}.{self._suffix}": rotation for name, rotation in local.items()}


def _between(keys: np.ndarray, times: np.ndarray, phase: float) -> np.ndarray:
    """Return a smooth (cubic ease) path through keys ``[K, D]``, one every KEY_SECONDS, from ``phase`` of a key on."""
    position = np.minimum(times / KEY_SECONDS + phase, len(keys) - 1.0)
    index = np.minimum(position.astype(int), len(keys) - 2)
    share = (position - index)[:, None]
    share = share * share * (3 - 2 * share)
    return keys[index] * (1 - share) + keys[index + 1] * share


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / (np.linalg.norm(vector) + 1e-9)


def _rotation(axis_angle: np.ndarray) -> np.ndarray:
    return cv2.Rodrigues(np.asarray(axis_angle, np.float64))[0]


def _basis(along: np.ndarray, about: np.ndarray) -> np.ndarray:
    """Return the columns ``along``, the part of ``about`` at right angles to it, and their cross product."""
    along = _unit(along)
    about = _unit(about - along * (along @ about))
    return np.stack([along, about, np.cross(along, about)], axis=1)


def _shortest(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    axis = np.cross(start, end)
    return _rotation(_unit(axis) * np.arctan2(np.linalg.norm(axis), start @ end))
