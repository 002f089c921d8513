"""Candidates that show nothing: a sampler that diverged makes black, grey or one-coloured pictures."""

from __future__ import annotations

from typing import Final

import numpy as np

from ipa_core.records import Rejected

LEAST_SPREAD: Final = 3.0
"""Grey levels. A picture with a smaller standard deviation in each colour shows nothing, also after a codec."""


def check_texture(video: np.ndarray) -> None:
    """Raise ``Rejected`` when half of the pictures, uint8 RGB ``[T, H, W, 3]``, have no texture: their hands can't be
    judged, and are no bad hands either."""
    spread = np.array([picture.std(axis=(0, 1)).max() for picture in video])
    blank = int((spread < LEAST_SPREAD).sum())
    if 2 * blank >= len(video):
        red, green, blue = video[spread < LEAST_SPREAD].mean(axis=(0, 1, 2)).round().astype(int).tolist()
        raise Rejected(
            f"degenerate: {blank} of {len(video)} pictures have one colour (red {red}, green {green}, blue {blue})"
        )
