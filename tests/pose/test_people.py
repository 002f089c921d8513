import numpy as np
import pytest

from ipa_core import keypoints as kp
from ipa_core.config import PosesConfig
from ipa_core.pose import people
from ipa_core.pose.people import Person
from ipa_core.records import Rejected

SIZE = 100


def standing(x: float, height: float, confidence: float = 0.9) -> Person:
    """A stick of 17 body points, ``height`` tall and half as wide, centred at (x, 50)."""
    keypoints, sure = np.zeros((133, 2), np.float32), np.zeros(133, np.float32)
    keypoints[kp.BODY] = np.stack(
        [x + height / 4 * np.cos(np.arange(17) * 2), np.linspace(50 - height / 2, 50 + height / 2, 17)], 1
    )
    sure[kp.BODY] = confidence
    found = people.person(keypoints, sure, SIZE, SIZE)
    assert found is not None
    return found


def xs(chosen: list[Person | None]) -> list[float | None]:
    return [None if one is None else round(one.box.x + one.box.width / 2) for one in chosen]


def test_the_person_seen_longest_is_followed():
    frames = [[standing(20, 40), standing(70, 60)], [standing(22, 40)], [standing(24, 40), standing(70, 60)]]
    assert xs(people.main_person(frames, PosesConfig(person="tracked"), SIZE)) == [20, 22, 24]


def test_of_people_seen_equally_long_the_largest_is_followed():
    frames = [[standing(20, 40), standing(70, 60)], [standing(22, 40), standing(68, 60)]]
    assert xs(people.main_person(frames, PosesConfig(person="tracked"), SIZE)) == [70, 68]


def test_tracking_survives_a_gap():
    frames = [[standing(30, 50)]] * 4 + [[]] + [[standing(32, 50)]] * 5
    assert xs(people.main_person(frames, PosesConfig(), SIZE)) == [30] * 4 + [None] + [32] * 5


def test_the_largest_may_change():
    frames = [[standing(20, 60), standing(70, 50)], [standing(20, 50), standing(70, 60)]]
    assert xs(people.main_person(frames, PosesConfig(person="largest"), SIZE)) == [20, 70]


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([[], []], "no person found"),
        ([[standing(50, 18)]] * 2, "person too small: 18 % of the picture's height, 25 % needed"),
        ([[standing(50, 60)]] * 3 + [[]] * 6, "person found in 3 of 9 frames, 80 % needed"),
    ],
)
def test_reasons_of_rejection(frames, reason):
    with pytest.raises(Rejected) as rejected:
        people.main_person(frames, PosesConfig(), SIZE)
    assert str(rejected.value) == reason


def test_one_person_found_twice_counts_once():
    twice = [standing(30, 50, 0.6), standing(31, 51, 0.9), standing(75, 40)]
    assert xs(people.distinct(twice)) == [31, 75]


def test_the_box_holds_what_is_seen_inside_the_picture():
    keypoints, confidence = np.zeros((133, 2), np.float32), np.zeros(133, np.float32)
    keypoints[:5] = (10, 20), (30, 20), (30, 60), (10, 60), (10, 140)
    confidence[:6] = 0.9, 0.9, 0.9, 0.9, 0.9, 0.1
    found = people.person(keypoints, confidence, SIZE, SIZE)
    assert (found.box.x, found.box.y, found.box.width, found.box.height) == (10, 20, 20, 40)


def test_a_few_points_are_no_person():
    keypoints, confidence = np.full((133, 2), 50, np.float32), np.zeros(133, np.float32)
    confidence[:3] = 0.9
    assert people.person(keypoints, confidence, SIZE, SIZE) is None


def test_points_not_found_are_zero():
    one = standing(50, 40)
    pose = people.sequence([one, None], SIZE, SIZE, "model", "test")
    assert not pose.keypoints[1].any()
    assert not pose.keypoints[0, kp.FACE].any()
    assert np.array_equal(pose.keypoints[0, kp.BODY], one.keypoints[kp.BODY])
