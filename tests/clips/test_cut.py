import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ipa_core.clips.cut import CutClip, DroppedWindow, cut_video, reference_index
from ipa_core.config import ClipsConfig
from ipa_core.records import Box, Rejected
from tests.clips.bad_videos import write_bad_videos
from tests.clips.recordings import number_of, numbered, record

SOURCE = "ab" * 32
CONFIG = ClipsConfig(sources=("unused",), frames=17, fps=16, width=160, height=112, crop="center")


def cut(path: Path, **changes: object) -> list[CutClip | DroppedWindow]:
    return list(cut_video(path, SOURCE, CONFIG.model_copy(update=changes), find_people=None))


def clips(path: Path, **changes: object) -> list[CutClip]:
    return [part for part in cut(path, **changes) if isinstance(part, CutClip)]


def numbers(clip: CutClip) -> list[int]:
    return [number_of(picture) for picture in clip.frames]


def test_equal_rates_take_each_picture_once(tmp_path: Path) -> None:
    first, second = cut(record(tmp_path / "a.mp4", numbered(34), fps=16))
    assert isinstance(first, CutClip)
    assert isinstance(second, CutClip)
    assert first.frames.shape == (17, 112, 160, 3)
    assert numbers(first) + numbers(second) == list(range(34))
    assert (first.index, first.start, second.index, second.start) == (0, 0, 1, pytest.approx(17 / 16))


def test_12_fps_are_repeated_to_16(tmp_path: Path) -> None:
    (clip,) = clips(record(tmp_path / "a.mp4", numbered(13), fps=12))
    assert numbers(clip) == [0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11, 12]


def test_60_fps_are_thinned_to_16(tmp_path: Path) -> None:
    (clip,) = clips(record(tmp_path / "a.mp4", numbered(61), fps=60))
    assert numbers(clip) == [0, 4, 7, 11, 15, 19, 22, 26, 30, 34, 37, 41, 45, 49, 52, 56, 60]


def test_a_variable_rate_follows_the_time_stamps(tmp_path: Path) -> None:
    times = [index / 30 for index in range(15)] + [0.5 + index / 10 for index in range(7)]
    (clip,) = clips(record(tmp_path / "a.mp4", numbered(len(times)), times=times))
    nearest = [int(np.argmin(np.abs(np.array(times) - index / 16 + 1e-4))) for index in range(17)]
    assert numbers(clip) == nearest


def test_no_window_crosses_a_cut(tmp_path: Path) -> None:
    pictures = numbered(40, seed=1) + numbered(50, seed=2, first=40)
    parts = cut(record(tmp_path / "a.mp4", pictures, fps=16))
    assert [numbers(part) if isinstance(part, CutClip) else part for part in parts] == [
        list(range(17)),
        list(range(17, 34)),
        DroppedWindow(index=2, start=34 / 16, reason="0.375 s left over, a clip needs 1.06 s"),
        list(range(40, 57)),
        list(range(57, 74)),
        DroppedWindow(index=5, start=74 / 16, reason="1 s left over, a clip needs 1.06 s"),
    ]


def test_a_pause_in_the_time_stamps_ends_a_shot(tmp_path: Path) -> None:
    times = [index / 16 + (2 if index >= 17 else 0) for index in range(34)]
    first, second = clips(record(tmp_path / "a.mp4", numbered(34), times=times))
    assert (numbers(first), numbers(second)) == (list(range(17)), list(range(17, 34)))
    assert second.start == pytest.approx(2 + 17 / 16)


def test_a_wall_that_slowly_turns_brighter_is_no_cut(tmp_path: Path) -> None:
    pictures = [np.full((120, 160, 3), 60 + index, np.uint8) for index in range(34)]
    assert len(clips(record(tmp_path / "a.mp4", pictures, fps=16))) == 2


def test_max_windows_counts_clips_from_the_start(tmp_path: Path) -> None:
    pictures = numbered(5, seed=1) + numbered(60, seed=2)
    parts = cut(record(tmp_path / "a.mp4", pictures, fps=16), max_windows=2)
    assert [(type(part), part.index) for part in parts] == [(DroppedWindow, 0), (CutClip, 1), (CutClip, 2)]


def test_cutting_again_gives_the_same(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(40), fps=25)
    for first, second in zip(clips(path), clips(path), strict=True):
        np.testing.assert_array_equal(first.frames, second.frames)
        assert first.reference_index == second.reference_index


@pytest.mark.parametrize(
    ("rotation", "size"), [(0, (160, 120)), (90, (120, 160)), (180, (160, 120)), (270, (120, 160))]
)
def test_the_crop_is_meant_in_the_upright_picture(tmp_path: Path, rotation: int, size: tuple[int, int]) -> None:
    path = record(tmp_path / "a.mp4", numbered(17), fps=16, rotation=rotation)
    (clip,) = clips(path, width=64, height=64)
    assert clip.crop == Box(x=(size[0] - 120) / 2, y=(size[1] - 120) / 2, width=120, height=120)


def test_the_crop_follows_the_person(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(17, width=640, height=480), fps=16)
    asked = []

    def find_people(picture: np.ndarray) -> Sequence[Box]:
        asked.append(number_of(picture))
        left = 300 + 5 * number_of(picture)
        return [Box(x=left, y=100, width=60, height=200), Box(x=10, y=300, width=30, height=100)]

    config = CONFIG.model_copy(update={"crop": "person", "width": 64, "height": 64, "crop_margin": 0.1})
    (clip,) = cut_video(path, SOURCE, config, find_people)
    assert isinstance(clip, CutClip)
    assert asked == [0, 8, 16]
    # 200 high with 20 on each side; from 300 to 440, 140 wide, around 370.
    assert clip.crop == Box(x=250, y=80, width=240, height=240)
    assert clip.frames.shape == (17, 64, 64, 3)


def test_people_are_found_in_scaled_pictures_and_boxes_are_meant_in_the_source(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(9, width=1920, height=1080), fps=8)
    sizes = set()

    def find_people(picture: np.ndarray) -> Sequence[Box]:
        sizes.add(picture.shape)
        return [Box(x=300, y=100, width=100, height=400)]

    config = CONFIG.model_copy(update={"crop": "person", "width": 160, "height": 160, "crop_margin": 0})
    clip, _ = cut_video(path, SOURCE, config, find_people)
    assert isinstance(clip, CutClip)
    assert sizes == {(720, 1280, 3)}
    assert clip.crop == Box(x=225, y=150, width=600, height=600)
    assert clip.frames.shape == (17, 160, 160, 3)


def test_nobody_found_crops_in_the_middle(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(17), fps=16)
    config = CONFIG.model_copy(update={"crop": "person", "width": 64, "height": 64})
    (clip,) = cut_video(path, SOURCE, config, find_people=lambda picture: [])
    assert clip.crop == Box(x=20, y=0, width=120, height=120)  # type: ignore[union-attr]


def test_one_window_is_held_at_a_time(tmp_path: Path) -> None:
    pictures = numbered(17, width=640, height=480) * 4
    path = record(tmp_path / "a.mp4", pictures, fps=16)
    window = 17 * 640 * 480 * 3
    tracemalloc.start()
    try:
        for part in cut_video(path, SOURCE, CONFIG, None):
            assert isinstance(part, CutClip)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * window


def test_the_reference_follows_from_the_source() -> None:
    assert [reference_index(SOURCE, index, 81) for index in range(5)] == [26, 41, 75, 26, 65]
    assert {reference_index(SOURCE, index, 5) for index in range(60)} == set(range(5))


def test_the_first_frame_as_reference(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(51), fps=16)
    assert [clip.reference_index for clip in clips(path, reference="first")] == [0, 0, 0]
    assert [clip.reference_index for clip in clips(path)] == [reference_index(SOURCE, index, 17) for index in range(3)]


def test_too_short(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(16), fps=16)
    with pytest.raises(Rejected, match=r"^1 s is shorter than one clip of 1.06 s$"):
        cut(path)


def test_all_shots_too_short(tmp_path: Path) -> None:
    pictures = [picture for seed in range(4) for picture in numbered(8 + seed, seed=seed)]
    path = record(tmp_path / "a.mp4", pictures, fps=16)
    with pytest.raises(Rejected, match=r"^the longest of 4 shots has 0.688 s, a clip needs 1.06 s$"):
        cut(path)


def test_bad_videos(tmp_path: Path) -> None:
    reasons = write_bad_videos(tmp_path, clip_seconds=17 / 16)
    assert {path.name for path in tmp_path.iterdir()} == set(reasons)
    for name, reason in reasons.items():
        if reason == "no person":
            assert clips(tmp_path / name)
        elif name == "corrupt_middle.mp4":
            first, *_, last = cut(tmp_path / name)
            assert isinstance(first, CutClip)
            assert isinstance(last, DroppedWindow)
            assert any(reason in part.reason for part in (*_, last) if isinstance(part, DroppedWindow))
        else:
            with pytest.raises(Rejected, match=reason):
                cut(tmp_path / name)
