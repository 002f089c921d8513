"""COCO-WholeBody 133: the indices of each part, and the connections of a hand's 21 points. Source: Jin et al.,
"Whole-Body Human Pose Estimation in the Wild" (ECCV 2020)."""

from __future__ import annotations

from typing import Final

from ipa_core.records import Side

COUNT: Final = 133
BODY: Final = slice(0, 17)
FEET: Final = slice(17, 23)
FACE: Final = slice(23, 91)
LEFT_HAND: Final = slice(91, 112)
RIGHT_HAND: Final = slice(112, 133)
HANDS: Final[dict[Side, slice]] = {"left": LEFT_HAND, "right": RIGHT_HAND}

NOSE, LEFT_EYE, RIGHT_EYE, LEFT_EAR, RIGHT_EAR = range(5)
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST, RIGHT_WRIST = range(5, 11)
LEFT_HIP, RIGHT_HIP, LEFT_KNEE, RIGHT_KNEE, LEFT_ANKLE, RIGHT_ANKLE = range(11, 17)
LEFT_BIG_TOE, LEFT_SMALL_TOE, LEFT_HEEL, RIGHT_BIG_TOE, RIGHT_SMALL_TOE, RIGHT_HEEL = range(17, 23)

ELBOWS: Final[dict[Side, int]] = {"left": LEFT_ELBOW, "right": RIGHT_ELBOW}
WRISTS: Final[dict[Side, int]] = {"left": LEFT_WRIST, "right": RIGHT_WRIST}

FINGERS: Final = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
"""Thumb to little finger, each from the palm to the tip. 0 is the wrist. MediaPipe and OpenPose share this order."""

HAND_BONES: Final = tuple(bone for finger in FINGERS for bone in zip((0, *finger[:-1]), finger, strict=True))
"""20 pairs of hand points, 4 per finger. Each pair goes from the wrist towards the tip."""
