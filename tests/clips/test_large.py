"""Pictures of more than 720 lines are scaled once, as they are stored."""

from fractions import Fraction
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest

from ipa_core.clips.crop import cut_out
from ipa_core.clips.cut import CutClip, cut_video
from ipa_core.config import ClipsConfig
from ipa_core.reading import Colour, Pictures, Reading, Shown, Turn
from ipa_core.records import Box
from ipa_core.video import LARGE, decode_video, encode_video, frames, look
from tests.clips.kinds import filtered, moving, psnr, write, yuv
from tests.clips.recordings import scene

CONFIG = ClipsConfig(sources=("unused",), frames=5, fps=25, width=256, height=144, crop="center")
TAGGED = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "a.mp4"
    return write(path, [yuv(picture) for picture in moving(5, 1312, 738)], tags=TAGGED)


def pictures_of(path: Path, **changes: object) -> list[np.ndarray]:
    (clip,) = cut_video(path, "ab" * 32, CONFIG, None, **changes)  # type: ignore[arg-type]
    assert isinstance(clip, CutClip)
    return list(clip.frames)


def test_its_look_says_so(large: Path, tmp_path: Path) -> None:
    small = write(tmp_path / "b.mp4", [yuv(picture) for picture in moving(1, 1280, 720)], tags=TAGGED)
    assert (look(large).traits, look(small).traits) == ((LARGE,), ())


def test_clips_are_those_of_ffmpegs_scaler(large: Path) -> None:
    right = filtered(large, "scale", "256:144:flags=area+accurate_rnd+full_chroma_int", rgb=True)
    assert psnr(pictures_of(large), right) > 45


def test_clips_are_near_to_those_of_earlier_versions(large: Path) -> None:
    assert psnr(pictures_of(large), pictures_of(large, traits=())) > 50


def test_without_the_trait_a_clip_is_scaled_twice_in_rgb(large: Path) -> None:
    def twice(picture: np.ndarray) -> np.ndarray:
        smaller = cv2.resize(picture, (1280, 720), interpolation=cv2.INTER_AREA)
        return cut_out(smaller, Box(x=0, y=0, width=1312, height=738), 1312, 256, 144)

    assert psnr(pictures_of(large, traits=()), [twice(frame.picture) for frame in frames(large)]) == np.inf


def test_a_fine_chessboard_becomes_grey() -> None:
    board = np.indices((1080, 1920)).sum(axis=0) % 2 * 255
    shown = Shown(yuv(np.repeat(board[..., None], 3, axis=2).astype(np.uint8)), Pictures(Reading()))
    made = shown.part(Box(x=24, y=0, width=1872, height=1080), 832, 480)
    assert np.abs(made.astype(int) - 128).max() <= 16  # It was 0 and 255.


TURNS = [Turn(*sides) for sides in product([False, True], repeat=3)]


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_part_of_a_turned_picture_is_where_a_viewer_sees_it(turn: Turn) -> None:
    shown = Shown(yuv(scene(3, 800, 450)), Pictures(Reading(turn), Fraction(1)))
    assert shown.size == ((450, 800) if turn.transposed else (800, 450))
    right = cv2.resize(shown.full()[50:370, 30:350], (160, 160), interpolation=cv2.INTER_AREA)
    assert psnr([shown.part(Box(x=30, y=50, width=320, height=320), 160, 160)], [right]) > 45


@pytest.mark.parametrize("colour", ["plain", "untagged", "bt2020", "hlg", "pq"])
def test_a_part_has_the_colours_of_the_whole(colour: Colour) -> None:
    shown = Shown(yuv(scene(3, 800, 450)), Pictures(Reading(colour=colour)))
    right = cv2.resize(shown.full()[50:370, 30:350], (160, 160), interpolation=cv2.INTER_AREA)
    assert psnr([shown.part(Box(x=30, y=50, width=320, height=320), 160, 160)], [right]) > 42


def test_a_part_of_wide_pixels() -> None:
    shown = Shown(yuv(scene(3, 720, 540)), Pictures(Reading(), Fraction(4, 3)))
    assert shown.size == (960, 540)
    right = cv2.resize(shown.full()[50:370, 300:620], (160, 160), interpolation=cv2.INTER_AREA)
    assert psnr([shown.part(Box(x=300, y=50, width=320, height=320), 160, 160)], [right]) > 42


def test_a_picture_may_wait_in_another_size() -> None:
    whole = Shown(yuv(scene(3, 960, 540)), Pictures(Reading()))
    waiting = whole.at_most(270)
    assert (waiting.frame.format.name, waiting.size) == ("yuv420p", (480, 270))
    part, twice = Box(x=100, y=20, width=200, height=200), Box(x=200, y=40, width=400, height=400)
    assert psnr([waiting.part(part, 100, 100)], [whole.part(twice, 100, 100)]) > 45


def test_a_quick_encoder_is_as_near_to_the_picture() -> None:
    pictures = np.stack([cv2.GaussianBlur(one, (0, 0), 0.7) for one in moving(6, 416, 240)])
    quick, slow = (list(decode_video(encode_video(pictures, 16, preset=how))) for how in ("superfast", "medium"))
    assert psnr(quick, list(pictures)) > psnr(slow, list(pictures)) - 0.1
