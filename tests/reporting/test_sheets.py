from __future__ import annotations

import cv2
import numpy as np
import pytest

from ipa_core.reporting.sheets import (
    FILM_HEIGHT,
    GAP,
    GREY,
    HEIGHT,
    ROWS,
    Shot,
    candidate_strip,
    comparison_sheet,
    contact_sheet,
    film,
    hand_crop,
    spread,
    telling_frames,
)
from ipa_core.video import decode_video
from tests.evaluation.material import FRAMES, pose_with_right_hand, smooth_video

VIDEO = smooth_video()
POSE = pose_with_right_hand()


def opened(jpeg: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def test_a_sheet_has_a_row_per_video_and_a_column_per_frame_and_its_hands() -> None:
    rows = comparison_sheet(VIDEO, POSE, Shot(VIDEO, POSE), Shot(VIDEO, None), columns=3)
    assert {opened(row).shape for row in rows} == {(HEIGHT, 3 * (HEIGHT * 96 // 64 + 2 * HEIGHT) + 8 * GAP, 3)}
    assert len(rows) == len(ROWS)


def test_a_film_has_the_videos_side_by_side_and_in_step() -> None:
    dark, light = np.zeros((4, 32, 48, 3), np.uint8), np.full((4, 32, 48, 3), 255, np.uint8)
    grey = np.full((4, 32, 48, 3), 127, np.uint8)
    shown = decode_video(film((dark, grey, light), fps=8))
    assert shown.shape == (4, 32, 3 * 48, 3)
    assert shown[:, 16, [24, 72, 120], 0] == pytest.approx(np.array([[0, 127, 255]] * 4), abs=3)


def test_a_film_of_large_videos_is_small_and_even() -> None:
    video = np.zeros((2, 2 * FILM_HEIGHT, 302, 3), np.uint8)
    assert decode_video(film((video, video, video), fps=8)).shape == (2, FILM_HEIGHT, 3 * 152, 3)


def test_colours_stay_where_they_are() -> None:
    red = np.zeros((10, 10, 3), np.uint8)
    red[..., 0] = 255
    assert opened(contact_sheet([[red]]))[50, 50] == pytest.approx([255, 0, 0], abs=6)


def test_short_rows_are_filled_with_grey() -> None:
    white = np.full((10, 10, 3), 255, np.uint8)
    sheet = opened(contact_sheet([[white, white], [white]], height=40))
    assert sheet.shape == (84, 84, 3)
    assert sheet[70, 70] == pytest.approx([GREY] * 3, abs=4)


def test_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([[], []])


def test_the_same_pictures_give_the_same_bytes() -> None:
    assert candidate_strip(VIDEO, POSE) == candidate_strip(VIDEO, POSE)


def test_a_sheet_is_small() -> None:
    assert sum(map(len, comparison_sheet(VIDEO, POSE, Shot(VIDEO, POSE), Shot(VIDEO, POSE)))) < 300_000


def test_a_crop_is_centred_on_the_hand() -> None:
    crop = hand_crop(VIDEO[0], POSE, 0, "right")
    assert crop.shape == (36, 36, 3)
    np.testing.assert_array_equal(crop, VIDEO[0][14:50, 12:48])


def test_a_crop_beyond_the_picture_is_filled_with_grey() -> None:
    crop = hand_crop(VIDEO[0][:40], POSE, 0, "right")
    assert (crop[26:] == GREY).all()
    np.testing.assert_array_equal(crop[:26], VIDEO[0][14:40, 12:48])


def test_a_crop_without_a_hand_is_grey() -> None:
    assert (hand_crop(VIDEO[0], POSE, 0, "left") == GREY).all()


def test_frames_that_show_hands_come_first() -> None:
    assert telling_frames(pose_with_right_hand(shown=(1, 3)), 2) == [1, 3]


def test_where_too_few_frames_show_hands_all_are_taken() -> None:
    assert telling_frames(pose_with_right_hand(shown=(1,)), 3) == [0, 2, 3]


def test_frames_are_spread_over_the_clip() -> None:
    assert spread(81, 3) == [0, 40, 80]
    assert spread(2, FRAMES) == [0, 1]
    assert spread(1, 4) == [0]
