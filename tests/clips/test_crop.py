import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipa_core.clips.crop import crop_around, cut_out, main_person
from ipa_core.records import Box

SIZES = st.integers(16, 4000)
ASPECTS = st.floats(0.4, 2.5)
PEOPLE = st.builds(
    Box, x=st.floats(-100, 4000), y=st.floats(-100, 4000), width=st.floats(1, 4000), height=st.floats(1, 4000)
)


@given(st.none() | PEOPLE, SIZES, SIZES, ASPECTS, st.floats(0, 2))
def test_the_crop_lies_inside_and_has_the_aspect(
    person: Box | None, width: int, height: int, aspect: float, margin: float
) -> None:
    crop = crop_around(person, width, height, aspect, margin)
    assert crop.x >= 0
    assert crop.y >= 0
    assert crop.x + crop.width <= width
    assert crop.y + crop.height <= height
    # Each side is rounded by half a pixel at most, or up to one pixel.
    assert abs(crop.width - crop.height * aspect) <= 1 + aspect


@given(st.data(), st.integers(200, 2000), st.integers(200, 2000), ASPECTS)
def test_the_crop_holds_the_person_where_it_can(data: st.DataObject, width: int, height: int, aspect: float) -> None:
    tall = min(height, width / aspect)
    person_height = data.draw(st.floats(20, tall))
    person_width = data.draw(st.floats(10, tall * aspect))
    x = data.draw(st.floats(0, width - person_width))
    y = data.draw(st.floats(0, height - person_height))
    crop = crop_around(Box(x=x, y=y, width=person_width, height=person_height), width, height, aspect, margin=0)
    assert crop.x <= x + 1
    assert crop.y <= y + 1
    assert crop.x + crop.width >= x + person_width - 1
    assert crop.y + crop.height >= y + person_height - 1


@pytest.mark.parametrize(
    ("person", "crop"),
    [
        pytest.param(None, Box(x=100, y=0, width=200, height=200), id="nobody: the middle"),
        pytest.param(Box(x=190, y=80, width=20, height=40), Box(x=180, y=80, width=40, height=40), id="around"),
        pytest.param(Box(x=0, y=160, width=20, height=40), Box(x=0, y=160, width=40, height=40), id="moved in"),
        pytest.param(Box(x=60, y=20, width=220, height=80), Box(x=70, y=0, width=200, height=200), id="shrunk"),
    ],
)
def test_square_crops_of_400_x_200(person: Box | None, crop: Box) -> None:
    assert crop_around(person, 400, 200, aspect=1, margin=0) == crop


def test_a_crop_that_is_too_low_keeps_the_head() -> None:
    standing = Box(x=30, y=40, width=40, height=150)
    assert crop_around(standing, 100, 200, aspect=2, margin=0) == Box(x=0, y=40, width=100, height=50)


def test_the_margin_is_a_share_of_the_height() -> None:
    person = Box(x=400, y=400, width=100, height=100)
    assert crop_around(person, 1000, 1000, aspect=1, margin=0.2) == Box(x=380, y=380, width=140, height=140)


def test_the_main_person_is_the_one_that_is_largest_at_first() -> None:
    main, passer = Box(x=10, y=10, width=50, height=100), Box(x=200, y=0, width=60, height=120)
    moved = Box(x=20, y=5, width=50, height=100)
    assert main_person([[main], [passer, moved], [passer]]) == Box(x=10, y=0, width=250, height=120)
    assert main_person([[main], [passer, moved], [moved, passer]]) == Box(x=10, y=5, width=60, height=105)


def test_pictures_without_people_are_passed_over() -> None:
    box = Box(x=10, y=10, width=50, height=100)
    assert main_person([[], [box], []]) == box
    assert main_person([[], [], []]) is None


def test_cutting_out_takes_exactly_the_crop() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    part = cut_out(picture, Box(x=20, y=10, width=64, height=48), source_width=120, width=64, height=48)
    np.testing.assert_array_equal(part, picture[10:58, 20:84])


def test_cutting_out_of_a_picture_that_is_scaled_down() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    part = cut_out(picture, Box(x=40, y=20, width=128, height=96), source_width=240, width=64, height=48)
    np.testing.assert_array_equal(part, picture[10:58, 20:84])


@pytest.mark.parametrize("size", [16, 64, 256])
def test_resizing_keeps_the_brightness(size: int) -> None:
    picture = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (64, 1, 3))
    part = cut_out(picture, Box(x=0, y=0, width=64, height=64), source_width=64, width=size, height=size)
    assert part.shape == (size, size, 3)
    assert part.mean() == pytest.approx(picture.mean(), abs=1)
