from __future__ import annotations

import numpy as np
import pytest

from ipa_core.records import Rejected
from ipa_core.scoring.degenerate import check_texture
from ipa_core.video import decode_video, encode_video
from tests.scoring.hands import moving_hands, video_of

VIDEO = video_of(moving_hands())


@pytest.mark.parametrize("colour", [(0, 0, 0), (127, 127, 127), (200, 30, 30)])
def test_pictures_of_one_colour_are_degenerate_also_after_a_codec(colour: tuple[int, int, int]) -> None:
    blank = np.broadcast_to(np.array(colour, np.uint8), VIDEO.shape)
    with pytest.raises(Rejected, match="degenerate: 5 of 5 pictures have one colour"):
        check_texture(decode_video(encode_video(blank, 8)))


def test_a_video_that_starts_black_is_none() -> None:
    video = VIDEO.copy()
    video[:2] = 0
    check_texture(video)
