"""The second judge with a made-up network: one that sees a hand where the picture is bright."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ipa_core.config import ConfigError, RoundsConfig
from ipa_core.evaluation import ClipResult, compare, promotion_rule
from ipa_core.evaluation.second_judge import SIDE, SecondJudge, hand_picture, judge_files, nearness, read_judge
from tests.evaluation.material import FRAMES, HEIGHT, WIDTH, paired, pose_with_right_hand, result
from tests.evaluation.tiny_judge import write_judge

HAND = np.stack([np.cos(np.linspace(0, 6, 21)), np.sin(np.linspace(0, 6, 21))], axis=1)[None]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> SecondJudge:
    return SecondJudge(str(write_judge(tmp_path_factory.mktemp("judge"))))


def video(red: int, green: int = 255, blue: int = 255) -> np.ndarray:
    return np.full((FRAMES, HEIGHT, WIDTH, 3), (red, green, blue), np.uint8)


def judged(
    judge: SecondJudge, made: np.ndarray, truth: np.ndarray, shown: tuple[int, ...] = (0, 1, 2, 3)
) -> float | None:
    pose = pose_with_right_hand(shown)
    [value] = judge.judge([made], pose, truth, pose)
    return value


def test_a_hand_as_the_true_one_is_worth_what_the_judge_is_sure_of(judge: SecondJudge) -> None:
    value = judged(judge, video(255), video(255))
    assert value == pytest.approx(1.0, abs=1e-4)


def test_no_hand_is_worth_nothing(judge: SecondJudge) -> None:
    value = judged(judge, video(0, 0, 0), video(255))
    assert value == pytest.approx(0.0, abs=1e-3)


def test_points_in_other_places_cost(judge: SecondJudge) -> None:
    """The points are spread as the picture is red: at half of it they are half as far from the centre."""
    value = judged(judge, video(229), video(255))
    assert value is not None and 0.5 < value < 0.9


def test_only_frames_with_a_hand_count(judge: SecondJudge) -> None:
    half = video(255)
    half[2:] = 0
    assert judged(judge, half, video(255), shown=(0, 1)) == pytest.approx(1.0, abs=1e-4)


def test_a_hand_that_the_judge_does_not_see_in_the_true_video_is_not_judged(judge: SecondJudge) -> None:
    assert judged(judge, video(255), video(0, 0, 0)) is None


def test_no_hand_in_the_pose(judge: SecondJudge) -> None:
    assert judged(judge, video(255), video(255), shown=()) is None


def test_nearness_does_not_ask_where_the_hand_is() -> None:
    assert nearness(HAND + np.array([0.3, -0.2]), HAND) == pytest.approx([1.0])


def test_nearness_of_a_hand_that_is_turned_round() -> None:
    assert nearness(-HAND, HAND) == pytest.approx([0.0], abs=0.05)


def test_nearness_counts_in_hand_sizes() -> None:
    """Points that stray by a tenth of the hand are half as near."""
    size = float(np.ptp(HAND, axis=1).max())
    aside = np.where(np.arange(21) % 2, 0.1, -0.1)[:, None] * (1.0, 0.0) * size
    aside[-1] = 0
    assert nearness(HAND + aside, HAND) == pytest.approx([0.5 * 20 / 21 + 1 / 21], abs=0.01)


def test_the_hand_points_up_in_its_picture() -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    points = np.full((21, 2), 100.0)
    points[1:, 0] = np.linspace(110, 150, 20)  # The fingers point to the right.
    points[(5, 17), 1] = 80, 120
    picture[95:106, 145:156] = 255  # The last tip.
    rows, columns = np.nonzero(hand_picture(picture, points)[..., 0])
    assert rows.mean() < SIDE / 2
    assert columns.mean() == pytest.approx(SIDE / 2, abs=2)


def test_it_is_black_where_the_picture_ends() -> None:
    points = np.random.default_rng(0).uniform(0, 20, (21, 2))
    seen = hand_picture(np.full((20, 20, 3), 255, np.uint8), points)
    assert seen[0, 0].tolist() == [0, 0, 0]


def test_its_files(tmp_path: Path) -> None:
    folder = write_judge(tmp_path / "judge")
    assert {path.name for path in judge_files(str(folder))} == {"model.json", "one.bin", "two.bin"}


def test_another_model_is_refused(tmp_path: Path) -> None:
    path = write_judge(tmp_path) / "model.json"
    path.write_text(path.read_text().replace('"size": "224"', '"size": "320"'))
    with pytest.raises(ConfigError) as refused:
        read_judge(str(tmp_path))
    assert str(refused.value) == (
        f"evaluation.judge: {tmp_path} is no second judge: it is another model: its inputs or outputs have other names "
        "or sizes; docs/second-judge.md says where it is"
    )


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        judge_files(str(tmp_path))
    assert "is no second judge: there is no model.json; docs/second-judge.md says" in str(refused.value)


def with_judge(gain: float) -> tuple[list[ClipResult], list[ClipResult]]:
    base, aligned = paired(12, gain=0.3)
    return (
        [row.model_copy(update={"second_judge": 0.5}) for row in base],
        [row.model_copy(update={"second_judge": 0.5 + gain}) for row in aligned],
    )


def test_a_comparison_has_it_last() -> None:
    found = compare(*with_judge(0.1), bootstrap=50).metrics[-1]
    assert (found.label, found.difference, found.win_rate) == ("second judge (never chooses)", 0.1, 1.0)
    assert found.difference_interval is not None


def test_a_comparison_without_a_judge_is_as_it_was() -> None:
    names = [metric.name for metric in compare(*paired(2, gain=0.1), bootstrap=10).metrics]
    assert "second_judge" not in names


def test_a_row_without_a_judge_is_written_as_it_was() -> None:
    """The rows are in the key of the comparison."""
    assert "second_judge" not in json.loads(result("a", 0, "base", 0.5).model_dump_json())


@pytest.mark.parametrize("gain", [-0.4, 0.4])
def test_it_changes_no_promotion(gain: float) -> None:
    alone = promotion_rule(compare(*paired(12, gain=0.3), bootstrap=50), RoundsConfig())
    assert promotion_rule(compare(*with_judge(gain), bootstrap=50), RoundsConfig()) == alone
