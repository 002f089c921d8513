import cv2
import numpy as np
import pytest

from ipa_core.evaluation import Look, look
from ipa_core.evaluation.comparison import compare
from tests.evaluation.material import paired, smooth_video

MASKS = np.zeros((4, 64, 96), bool)
MASKS[:, 20:44, 30:60] = True


@pytest.fixture
def truth() -> np.ndarray:
    noise = np.random.default_rng(1).integers(-40, 40, (64, 96, 1))
    return np.clip(smooth_video().astype(int) + noise, 0, 255).astype(np.uint8)


def moving(step: int) -> np.ndarray:
    """A texture that moves to the right by ``step`` pixels a frame."""
    picture = cv2.resize(np.random.default_rng(2).integers(0, 256, (16, 32, 3), np.uint8), (128, 64))
    return np.stack([picture[:, 30 - step * frame : 126 - step * frame] for frame in range(4)])


def test_the_true_video_is_all_ones(truth: np.ndarray) -> None:
    found = look(truth, truth, MASKS).model_dump(exclude={"motion", "motion_hand"})
    assert set(found.values()) == {1.0}


def test_blur_of_the_hands_alone_shows_on_the_hands(truth: np.ndarray) -> None:
    video = truth.copy()
    for frame in video:
        frame[20:44, 30:60] = cv2.GaussianBlur(frame, (0, 0), 1.5)[20:44, 30:60]
    found = look(video, truth, MASKS)
    assert found.sharpness_hand is not None and found.sharpness is not None
    assert found.sharpness_hand < 0.2 < 0.8 < found.sharpness


def test_half_the_contrast_and_half_the_colour() -> None:
    truth = smooth_video()
    video = (128 + (truth.astype(float) - 128) / 2).astype(np.uint8)
    found = look(video, truth, MASKS)
    assert (found.contrast, found.saturation_hand) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.5, abs=0.01))


def test_half_the_speed() -> None:
    found = look(moving(1), moving(2), MASKS)
    assert found.motion_hand == pytest.approx(0.5, abs=0.05)


def test_what_the_true_video_lacks_is_not_compared() -> None:
    grey = np.full((4, 64, 96, 3), 90, np.uint8)
    assert set(look(smooth_video(), grey, np.zeros_like(MASKS)).model_dump().values()) == {None}


def test_more_than_the_true_video_has_is_no_gain(truth: np.ndarray) -> None:
    base, aligned = paired(4, gain=0.1)
    as_it_is = look(truth, truth, MASKS)
    too_sharp = as_it_is.model_copy(update={"sharpness_hand": 3.0})
    first, second = (
        [one.model_copy(update={"look": each}) for one in rows]
        for rows, each in ((base, as_it_is), (aligned, too_sharp))
    )
    metric = next(one for one in compare(first, second, bootstrap=50).metrics if one.name == "sharpness_hand")
    assert (metric.difference, metric.win_rate) == (0.0, 0.5)


def test_a_row_of_an_earlier_version_is_written_as_it_was() -> None:
    [[row, *_], _] = paired(1, gain=0.1)
    assert "look" not in row.model_dump() and "look" not in row.model_dump_json()
    assert type(row).model_validate_json(row.model_dump_json()) == row
    kept = row.model_copy(update={"look": Look.model_validate(dict.fromkeys(Look.model_fields, 1.0))})
    assert type(row).model_validate_json(kept.model_dump_json()) == kept
