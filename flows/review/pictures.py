"""Pictures of a candidate, made once and kept in the store: its hands enlarged, and a small one for the list."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np

from flows.review.queue import Reviewable
from flows.stage import blob
from ipa_core import keypoints as kp
from ipa_core.records import PoseSequence, Side
from ipa_core.video import decode_video
from storage import Action, ActionResult, Blob, Store

STAGE: Final = "review"
VERSION: Final = 1
"""Goes up when the pictures change."""
HANDS, SMALL = "hands.jpg", "small.jpg"
NAMES: Final = (HANDS, SMALL)
COLUMNS: Final = 4
"""Frames whose hands are shown."""
SMALL_HEIGHT: Final = 48
_POINTS: Final = np.r_[kp.BODY, kp.LEFT_HAND, kp.RIGHT_HAND]
_BODY_BONES: Final = (
    (kp.LEFT_SHOULDER, kp.RIGHT_SHOULDER), (kp.LEFT_HIP, kp.RIGHT_HIP),
    (kp.LEFT_SHOULDER, kp.LEFT_ELBOW), (kp.LEFT_ELBOW, kp.LEFT_WRIST), (kp.LEFT_SHOULDER, kp.LEFT_HIP),
    (kp.RIGHT_SHOULDER, kp.RIGHT_ELBOW), (kp.RIGHT_ELBOW, kp.RIGHT_WRIST), (kp.RIGHT_SHOULDER, kp.RIGHT_HIP),
    (kp.LEFT_HIP, kp.LEFT_KNEE), (kp.LEFT_KNEE, kp.LEFT_ANKLE),
    (kp.RIGHT_HIP, kp.RIGHT_KNEE), (kp.RIGHT_KNEE, kp.RIGHT_ANKLE),
    (kp.NOSE, kp.LEFT_EYE), (kp.NOSE, kp.RIGHT_EYE), (kp.LEFT_EYE, kp.LEFT_EAR), (kp.RIGHT_EYE, kp.RIGHT_EAR),
)  # fmt: skip
BONES: Final = (*_BODY_BONES, *((start + base, end + base) for base in (17, 38) for start, end in kp.HAND_BONES))
"""Pairs of places among the 59 points of :func:`points_of`."""


class Pictures:
    """The pictures of a store's candidates. For several threads: two at most make pictures at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._makers = threading.Semaphore(2)

    def get(self, one: Reviewable, name: str) -> bytes:
        """JPEG; ``name`` is one of NAMES. Raises ``StoreError`` where the videos are not in the store."""
        action = Action(
            STAGE, VERSION, {}, {"candidate": one.candidate.video, "driving": one.driving, "pose": one.pose}
        )
        with self._makers:
            made = self._store.actions.get(STAGE, action.key)
            if made is None or self._store.objects.missing([blob(made, name)]):
                made = self._make(action)
        return self._store.objects.get(blob(made, name))

    def _make(self, action: Action) -> ActionResult:
        objects = self._store.objects
        candidate, driving = (decode_video(objects.get(action.inputs[name])) for name in ("candidate", "driving"))
        pose = PoseSequence.from_bytes(objects.get(action.inputs["pose"]))
        made = {HANDS: hands(candidate, driving, pose), SMALL: small(candidate)}
        outputs = {name: Blob(objects.put(data), len(data)) for name, data in made.items()}
        return self._store.actions.commit(ActionResult(action, "done", None, {}, outputs))


def hands(candidate: np.ndarray, driving: np.ndarray, pose: PoseSequence) -> bytes:
    """JPEG: the right and the left hand in a few frames, above those of the candidate, below those of the driving
    video; both cut where the driving hands are. Videos are uint8 ``[T, H, W, 3]``."""
    from ipa_core.evaluation.sheets import contact_sheet, hand_crop, telling_frames

    sides: tuple[Side, Side] = ("right", "left")
    places = [(frame, side) for frame in telling_frames(pose, COLUMNS) for side in sides]
    return contact_sheet(
        [[hand_crop(video[frame], pose, frame, side) for frame, side in places] for video in (candidate, driving)]
    )


def small(candidate: np.ndarray) -> bytes:
    """JPEG of the middle frame."""
    from ipa_core.evaluation.sheets import contact_sheet

    return contact_sheet([[candidate[len(candidate) // 2]]], height=SMALL_HEIGHT)


def points_of(pose: PoseSequence) -> dict[str, Any]:
    """What the page draws a skeleton from: per frame x, y (pixels) and confidence of 59 points, one after the other."""
    points = np.concatenate([pose.keypoints[:, _POINTS], pose.confidence[:, _POINTS, None]], axis=2)
    frames = np.round(points.astype(np.float64), 2).reshape(len(pose), -1).tolist()
    return {"width": pose.width, "height": pose.height, "bones": BONES, "frames": frames}
