"""Candidates that show nothing: a sampler that diverged makes black, grey or one-coloured pictures."""

from __future__ import annotations

from typing import Final

import numpy as np

from ipa_core.records import DEGENERATE, Rejected

LEAST_SPREAD: Final = 3.0
"""Grey levels. A picture with a smaller standard deviation in each colour shows nothing, also after a codec."""


def check_texture(video: np.ndarray) -> None:
    """Raise ``Rejected`` when a candidate uint8 RGB ``[T, H, W, 3]`` shows nothing: its hands can't be judged, and are
    no bad hands either."""
    if why := why_degenerate(video):
        raise Rejected(why)


def why_degenerate(video: np.ndarray) -> str | None:
    """Return why a video uint8 RGB ``[T, H, W, 3]`` shows nothing: half of its pictures have no texture. Else None."""
    spread = np.array([picture.std(axis=(0, 1)).max() for picture in video])
    blank = int((spread < LEAST_SPREAD).sum())
    if 2 * blank < len(video):
        return None
    red, green, blue = video[spread < LEAST_SPREAD].mean(axis=(0, 1, 2)).round().astype(int).tolist()
    return f"{DEGENERATE}: {blank} of {len(video)} pictures have one colour (red {red}, green {green}, blue {blue})"
