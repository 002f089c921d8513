"""Makes the pictures of a candidate once and keeps them in the store: enlarged hands, and a small one for the list."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from flows.engine.stage import blob
from flows.review.queue import Reviewable
from ipa_core import keypoints as kp
from ipa_core.records import Digest, PoseSequence, Side
from ipa_core.video import decode_video, frames
from storage import Action, ActionResult, Blob, Store

STAGE: Final = "review"
VERSION: Final = 1
"""Raise it when the pictures change."""
HANDS, DRIVING_HANDS, SMALL = "hands.jpg", "driving-hands.jpg", "small.jpg"
NAMES: Final = (HANDS, DRIVING_HANDS, SMALL)
_PICTURE: Final = "picture.jpg"
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
"""Pairs of positions among the 59 points of :func:`points_of`."""


class Pictures:
    """The pictures of a store's candidates. Several threads may call it; at most two enlarge hands at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._makers = threading.Semaphore(2)

    def get(self, one: Reviewable, name: str) -> bytes:
        """Return a JPEG; ``name`` is one of NAMES. Raises ``StoreError`` when the videos are not in the store."""
        if name == SMALL:
            # A list asks for many small pictures. They cost little, so they don't wait for the large ones.
            return self._made({"picture": SMALL}, {"video": one.candidate.video}, self._small)
        return self.hands(one.candidate.video if name == HANDS else one.driving, one.pose)

    def hands(self, video: Digest, pose: Digest) -> bytes:
        """Return a JPEG of the enlarged hands of a video, cut out where those of the driving pose are."""
        # All candidates of a clip share the driving video's pictures.
        with self._makers:
            return self._made({"picture": HANDS}, {"video": video, "pose": pose}, self._hands)

    def _made(self, config: dict[str, str], inputs: dict[str, str], make: Callable[[Action], bytes]) -> bytes:
        """Return the picture from the store, or make it and put it there."""
        action, actions, objects = Action(STAGE, VERSION, config, inputs), self._store.actions, self._store.objects
        found = actions.get(STAGE, action.key)
        if found is not None and objects.has(blob(found, _PICTURE)):
            return objects.get(blob(found, _PICTURE))
        data = make(action)
        actions.commit(ActionResult(action, "done", None, {}, {_PICTURE: Blob(objects.put(data), len(data))}))
        return data

    def _small(self, action: Action) -> bytes:
        return small(self._store.objects.path(action.inputs["video"]))

    def _hands(self, action: Action) -> bytes:
        objects = self._store.objects
        pose = PoseSequence.from_bytes(objects.get(action.inputs["pose"]))
        return hands(decode_video(objects.get(action.inputs["video"])), pose)


def hands(video: np.ndarray, driving: PoseSequence) -> bytes:
    """Return a JPEG of the right and the left hand in a few frames of a video (uint8 ``[T, H, W, 3]``), cut out where
    the driving hands are."""
    from ipa_core.reporting.sheets import contact_sheet, hand_crop, telling_frames

    sides: tuple[Side, Side] = ("right", "left")
    positions = [(frame, side) for frame in telling_frames(driving, COLUMNS) for side in sides]
    return contact_sheet([[hand_crop(video[frame], driving, frame, side) for frame, side in positions]])


def small(candidate: Path) -> bytes:
    """Return a JPEG of a video's first frame."""
    from ipa_core.reporting.sheets import contact_sheet

    return contact_sheet([[next(frames(candidate)).picture]], height=SMALL_HEIGHT)


def points_of(pose: PoseSequence) -> dict[str, Any]:
    """Return the page's skeleton data: per frame x, y (pixels) and confidence of 59 points, one after the other."""
    points = np.concatenate([pose.keypoints[:, _POINTS], pose.confidence[:, _POINTS, None]], axis=2)
    rows = np.round(points.astype(np.float64), 2).reshape(len(pose), -1).tolist()
    return {"width": pose.width, "height": pose.height, "bones": BONES, "frames": rows}
