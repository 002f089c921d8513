from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ipa_core.scoring import harmless
from ipa_core.scoring.finger_faults import FAULTS, HARDER, spoil
from ipa_core.scoring.finger_pairs import CELLS, SIZE, SURE, FingerPairInspector, crop, pooled, skeleton
from ipa_core.scoring.finger_samples import Stack, aligned, samples, shows
from ipa_core.scoring.finger_training import Lesson, Material, train
from tests.scoring.hands import open_hand

SIDE = 120


def drawn_hand(size: float, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A grey hand of strokes in a picture ``[side, side, 3]``, and its points."""
    points = open_hand(size, (side / 2, side / 2))
    picture = np.full((side, side, 3), 60, np.uint8)
    for finger in range(5):
        line = np.round(points[[0, *range(4 * finger + 1, 4 * finger + 5)]]).astype(np.int32)
        cv2.polylines(picture, [line], False, (200, 170, 150), round(0.14 * size), cv2.LINE_AA)
    return picture, points


def test_a_crop_shows_the_hand_in_one_size_whatever_its_size_in_the_picture() -> None:
    picture, points = drawn_hand(200.0, 600)
    small = cv2.resize(picture, (120, 120), interpolation=cv2.INTER_AREA)
    large, enlarged = crop(picture, points, 200.0), crop(small, points / 5, 40.0)
    difference = np.abs(large[..., :3].astype(int) - enlarged[..., :3])
    assert difference.mean() < 4


def test_picture_and_skeleton_of_a_large_hand_lie_on_each_other() -> None:
    picture, points = drawn_hand(300.0, 700)
    seen = crop(picture, points, 300.0)
    bones = (seen[..., 3:] > 100).any(axis=2)
    assert (seen[..., 0][bones] > 130).mean() > 0.9


def test_each_finger_has_its_own_channel() -> None:
    points = open_hand(80.0, (SIZE / 2, SIZE / 2))
    seen = skeleton(points)
    for finger in range(5):
        x, y = points[4 * finger + 4].astype(int)
        assert seen[y, x].argmax() == finger
        assert seen[y, x].max() == 255


def test_the_same_crops_give_the_same_answer_alone_and_together() -> None:
    picture, points = drawn_hand(40.0)
    one = crop(picture, points, 40.0)
    other = crop(picture[::-1].copy(), points, 40.0)
    inspector = FingerPairInspector()
    together = inspector.compare([one, other], [one, one])
    assert inspector.compare([other], [one])[0] == pytest.approx(together[1], abs=1e-4)
    assert (together <= SURE).all()


def test_a_mirrored_pair_gives_the_same_answer() -> None:
    picture, points = drawn_hand(40.0)
    theirs = crop(picture, points, 40.0)
    ours = crop(spoil("warp", picture[None], points[None], 2, 1)[0], points, 40.0)
    inspector = FingerPairInspector()
    mirrored = inspector.compare([ours[:, ::-1]], [theirs[:, ::-1]])
    assert inspector.compare([ours], [theirs]) == pytest.approx(mirrored, abs=1e-4)


def test_no_pairs_give_no_answers() -> None:
    assert FingerPairInspector().compare([], []).shape == (0,)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_changes_the_hand_and_follows_from_its_seed(kind: str) -> None:
    picture, points = drawn_hand(50.0)
    frames, hands = np.stack([picture] * 2), np.stack([points] * 2)
    spoilt = spoil(kind, frames, hands, 3, 4)
    assert (spoilt != frames).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(spoilt, spoil(kind, frames, hands, 3, 4))


@pytest.mark.parametrize("kind", sorted(HARDER))
def test_a_harder_fault_leaves_the_picture_far_from_the_hand_alone(kind: str) -> None:
    picture, points = drawn_hand(40.0)
    spoilt = spoil(kind, picture[None], points[None], 3, 1)
    corner = np.s_[0, :12, :12]
    assert np.abs(spoilt[corner].astype(int) - picture[:12, :12]).max() <= 1


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="no fault 'seven_fingers'"):
        spoil("seven_fingers", np.zeros((1, 9, 9, 3), np.uint8), np.zeros((1, 21, 2)), 1, 0)


def test_a_fault_that_changes_nothing_is_not_shown_to_the_network() -> None:
    whole = np.full((SIZE, SIZE, 3), 100, np.uint8)
    spoilt = whole.copy()
    spoilt[:5, :5] = 200
    assert not shows(whole, spoilt)
    spoilt[:30, :30] = 200
    assert shows(whole, spoilt)


def test_a_hand_of_another_size_and_place_is_laid_onto_the_driving_hand() -> None:
    hand = open_hand(40.0, (50.0, 50.0))
    np.testing.assert_allclose(aligned(1.3 * hand + (9, -4), hand), hand, atol=1e-6)


def test_harmless_changes_keep_shape_and_hand() -> None:
    picture, points = drawn_hand(40.0)
    frames, hands = np.stack([picture] * 2), np.stack([points] * 2)
    for seed in range(4):
        changed = harmless.changed(frames, hands, 40.0, np.random.default_rng(seed), strength=1.0)
        assert changed.shape == frames.shape
        inside = changed[0][points.astype(int)[5:, 1], points.astype(int)[5:, 0]].mean()
        assert inside > changed[0][:10, :10].mean() + 30


def test_a_stack_gives_pairs_of_both_classes_and_the_place_of_each_fault() -> None:
    picture, points = drawn_hand(60.0)
    stack = Stack(np.stack([picture] * 3), np.stack([points] * 3), 60.0)
    pairs = list(samples([stack], np.random.default_rng(0)))
    assert {pair.kind is None for pair in pairs} == {True, False}
    assert not any(pair.where.any() for pair in pairs if pair.kind is None)
    assert np.mean([pair.where.any() for pair in pairs if pair.kind is not None]) > 0.9


@pytest.mark.slow
def test_training_learns_a_missing_finger_that_is_plain_to_see(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture, points = drawn_hand(40.0)
    spoilt = spoil("finger_erased", picture[None], points[None], 3, 1)[0]
    theirs = crop(picture, points, 40.0)
    both = [theirs[..., :3], crop(spoilt, points, 40.0)[..., :3]]
    whole = np.arange(64) % 2 == 0
    noisy = [np.clip(both[0 if one else 1] + rng.normal(0, 8, (SIZE, SIZE, 3)), 0, 255) for one in whole]
    pictures = np.stack([np.concatenate([one, theirs[..., :3]], axis=2) for one in noisy]).astype(np.uint8)
    change = (np.abs(both[0].astype(int) - both[1]).max(axis=2) > 20).reshape(CELLS, 8, CELLS, 8).mean(axis=(1, 3))
    where = np.where(whole[:, None, None], 0, change * 255).astype(np.uint8)
    drawn = np.repeat(pooled(theirs[None, ..., 3:]), 64, axis=0)
    weights = tmp_path / "weights.safetensors"
    train(
        Material(pictures, drawn, where, whole, np.zeros(64, bool)), weights, course=[Lesson(40, 64), Lesson(10, SIZE)]
    )
    judge = FingerPairInspector(weights)
    good, bad = (np.concatenate([one, theirs[..., 3:]], axis=2) for one in both)
    answers = judge.compare([good, bad], [theirs, theirs])
    assert answers[0] > 0.5 > 0 > answers[1]
