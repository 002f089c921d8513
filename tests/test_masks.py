import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ipa_core import keypoints as kp
from ipa_core.masks import hand_mask, latent_mask
from ipa_core.records import PoseSequence

WIDTH, HEIGHT = 96, 64


def pose(left: np.ndarray | None = None, right: np.ndarray | None = None, confidence: float = 1.0) -> PoseSequence:
    """One frame with the given hand points ``[21, 2]``."""
    keypoints, sure = np.zeros((1, 133, 2), np.float32), np.zeros((1, 133), np.float32)
    for hand, place in ((left, kp.LEFT_HAND), (right, kp.RIGHT_HAND)):
        if hand is not None:
            keypoints[0, place], sure[0, place] = hand, confidence
    return PoseSequence(keypoints, sure, WIDTH, HEIGHT, "presence", "test")


def rectangle(left: float, top: float, width: float, height: float) -> np.ndarray:
    """21 points in it, its corners among them."""
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    inner = np.random.default_rng(0).random((17, 2))
    return np.concatenate([corners, inner]) * (width, height) + (left, top)


def test_without_margin_it_is_the_convex_hull():
    (mask,) = hand_mask(pose(rectangle(10, 20, 30, 16)), margin=0)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[20:36, 10:40] = True
    assert np.array_equal(mask, expected)


def test_margin_grows_it_by_a_share_of_the_longer_side():
    (mask,) = hand_mask(pose(rectangle(30, 20, 20, 10)), margin=0.25)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (15, 35, 25, 55)
    assert not mask[15, 25]  # rounded corners


def test_both_hands_are_in_it():
    both = hand_mask(pose(rectangle(5, 5, 20, 20), rectangle(60, 30, 20, 20)))
    alone = hand_mask(pose(rectangle(5, 5, 20, 20))) | hand_mask(pose(None, rectangle(60, 30, 20, 20)))
    assert np.array_equal(both, alone)


@pytest.mark.parametrize("unsure", [pose(), pose(rectangle(10, 10, 20, 20), confidence=0.29)], ids=["absent", "unsure"])
def test_unknown_hands_leave_no_mask(unsure):
    assert not hand_mask(unsure).any()


def test_points_out_of_the_picture_are_cut_off():
    (mask,) = hand_mask(pose(rectangle(80, -10, 40, 30)), margin=0)
    assert mask[:20, 80:].all()
    assert mask.sum() == 20 * 16


def test_a_hand_wholly_outside_leaves_no_mask():
    assert not hand_mask(pose(rectangle(-50, -80, 20, 20))).any()


def test_points_on_one_line_have_their_margin_only():
    line = np.stack([np.linspace(20, 60, 21), np.full(21, 30.0)], 1)
    (mask,) = hand_mask(pose(line), margin=0.1)
    assert mask[27:33, 22:58].all()
    assert not mask[:25].any()
    assert not mask[35:].any()


@settings(deadline=None, max_examples=20)
@given(arrays.arrays(np.float64, (21, 2), elements=st.integers(8, 56).map(float)))
def test_agrees_with_opencv_hull_inside(points):
    hull = cv2.convexHull(points.astype(np.float32))
    (mask,) = hand_mask(pose(points), margin=0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = [
        cv2.pointPolygonTest(hull, (float(a) + 0.5, float(b) + 0.5), True) for a, b in zip(x.flat, y.flat, strict=True)
    ]
    inside = np.reshape(inside, (HEIGHT, WIDTH))
    assert mask[inside > 1e-3].all()
    assert not mask[inside < -1e-3].any()


def test_latent_cells_take_the_largest_the_share_or_the_middle():
    mask = np.zeros((1, 4, 8), bool)
    mask[0, 2, 2] = mask[0, 0, 4] = True
    assert latent_mask(mask, 1, 1, 2, "max").tolist() == [[[1, 1]]]
    assert latent_mask(mask, 1, 1, 2, "mean").tolist() == [[[1 / 16, 1 / 16]]]
    assert latent_mask(mask, 1, 1, 2, "nearest").tolist() == [[[1, 0]]]


def test_first_latent_frame_is_the_first_picture():
    mask = np.zeros((9, 1, 1), bool)
    mask[0] = True
    for how in ("max", "mean", "nearest"):
        assert latent_mask(mask, 3, 1, 1, how).ravel().tolist() == [1, 0, 0]


def test_later_latent_frames_are_groups():
    mask = np.array([0, 0, 0, 0, 1, 0, 0, 1, 0], bool).reshape(9, 1, 1)
    assert latent_mask(mask, 3, 1, 1, "max").ravel().tolist() == [0, 1, 1]
    assert latent_mask(mask, 3, 1, 1, "mean").ravel().tolist() == [0, 0.25, 0.25]
    assert latent_mask(mask, 3, 1, 1, "nearest").ravel().tolist() == [0, 0, 1]


@settings(deadline=None)
@given(arrays.arrays(bool, st.tuples(st.just(5), st.just(4), st.just(6))), st.sampled_from(["max", "mean", "nearest"]))
def test_a_codec_of_single_pictures_keeps_time_and_full_cells_keep_all(mask, how):
    assert np.array_equal(latent_mask(mask, 5, 4, 6, how), mask)


@settings(deadline=None)
@given(arrays.arrays(bool, st.tuples(st.just(5), st.just(4), st.just(6))))
def test_mean_and_nearest_lie_below_max(mask):
    most = latent_mask(mask, 2, 2, 3, "max")
    assert most.dtype == np.float32
    assert (latent_mask(mask, 2, 2, 3, "mean") <= most).all()
    assert (latent_mask(mask, 2, 2, 3, "nearest") <= most).all()
    assert np.isin(most, (0, 1)).all()


@pytest.mark.parametrize("sizes", [(3, 3, 2), (2, 3, 2), (1, 2, 2), (2, 2, 5)])
def test_sizes_that_do_not_divide_are_refused(sizes):
    with pytest.raises(ValueError, match="don't divide"):
        latent_mask(np.zeros((5, 4, 4), bool), *sizes, "max")
