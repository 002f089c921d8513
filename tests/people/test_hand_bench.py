"""The hand bench as it comes with the project."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ipa_core.clips.metadata import read_metadata
from ipa_core.keypoints import HANDS
from ipa_core.people.hand_bench import DIFFICULTIES, Truth, class_of, difficulty, load_truth, write_truth
from storage.digest import digest_file

BENCH = Path(__file__).parents[2] / "bench"
TRUTHS = load_truth(BENCH)


def test_25_clips_of_each_class() -> None:
    assert Counter(map(class_of, TRUTHS)) == dict.fromkeys(DIFFICULTIES, 25)


def test_videos_are_those_of_the_truth() -> None:
    assert {name: digest_file(BENCH / "videos" / f"{name}.mp4") for name in TRUTHS} == {
        name: truth.video for name, truth in TRUTHS.items()
    }


def test_names_say_what_the_hands_do() -> None:
    assert all(difficulty(truth.keypoints, truth.confidence) == class_of(name) for name, truth in TRUTHS.items())


def test_masks_lie_on_the_hands() -> None:
    """Of the visible hand points nearly all lie on hand pixels; points sit at joints, inside the flesh."""
    on_hand = [
        truth.hand_mask[frame, int(y), int(x)]
        for truth in TRUTHS.values()
        for frame in range(len(truth.keypoints))
        for part in HANDS.values()
        for (x, y), seen in zip(truth.keypoints[frame, part], truth.confidence[frame, part], strict=True)
        if seen == 1
    ]
    assert np.mean(on_hand) > 0.95


def test_nobody_of_the_bench_is_trained_on() -> None:
    metadata = read_metadata(str(BENCH / "metadata.csv"))
    people: dict[str | None, set[str | None]] = {"train": set(), "held_out": set()}
    for path in (BENCH / "videos").iterdir():
        entry = metadata.lookup(str(path))
        people[entry.split].add(entry.group)
    assert people["train"].isdisjoint(people["held_out"])
    assert (len(people["train"]), len(people["held_out"])) == (64, 100)


def still(hidden: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two hands that show their palms and do not move; of each ``hidden`` points lie behind something."""
    keypoints, confidence = np.zeros((5, 133, 2), np.float32), np.ones((5, 133), np.float32)
    for side, part in HANDS.items():
        across = 1 if side == "left" else -1
        points = np.random.default_rng(0).uniform(0, 10, (21, 2))
        points[[0, 5, 17]] = [0, 0], [-4 * across, -10], [4 * across, -10]
        keypoints[:, part] = points
        confidence[:, list(range(part.start, part.start + hidden))] = 0.5
    return keypoints, confidence


def test_palms_are_palms_until_a_hand_turns() -> None:
    keypoints, confidence = still()
    shown = difficulty(keypoints, confidence)
    keypoints[:, HANDS["left"], 0] *= -1
    assert {shown, difficulty(keypoints, confidence)} == {"palm", "back"}


def test_hidden_points_make_a_clip_self_occluding() -> None:
    assert difficulty(*still(hidden=10)) == "self-occluding"


def test_moving_hands_make_a_clip_fast() -> None:
    keypoints, confidence = still()
    keypoints += 2 * np.arange(5)[:, None, None]
    assert difficulty(keypoints, confidence) == "fast"


def test_truth_survives_the_file(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).uniform(size=(5, 32, 32)) > 0.5
    truth = Truth(np.ones((5, 133, 2), np.float32), np.ones((5, 133), np.float32), mask, "0" * 64)
    write_truth(tmp_path, {"palm-00": truth})
    found = load_truth(tmp_path)["palm-00"]
    assert np.array_equal(found.hand_mask, mask)
    assert found.video == truth.video


def test_no_truth(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_truth(tmp_path)
