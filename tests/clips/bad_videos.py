"""Videos that no run must stumble over, written on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.clips.recordings import numbered, record, record_sound, scene


def write_bad_videos(folder: Path, clip_seconds: float) -> dict[str, str]:
    """Write one video of each kind into ``folder``; they are laid out for clips of ``clip_seconds``.

    The name of each and a part of the reason for which it is rejected: by ``cut_video``, or in the case of
    ``no person`` by whoever looks for people in its clips. ``corrupt_middle.mp4`` has one good clip before the damage
    (nobody is in it either), which is the reason for which what follows is dropped.
    """
    count = round(clip_seconds * 1.2 * 12) + 2
    (folder / "zero_bytes.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is a shopping list\n" * 50)
    record_sound(folder / "sound_only.mp4")
    record(folder / "one_picture.mp4", numbered(1))
    record(folder / "four_fps.mp4", numbered(count, seed=1), fps=4)
    record(folder / "no_index.mp4", numbered(count, seed=2), fps=12)
    _cut_off(folder / "no_index.mp4", 0.5)
    record(folder / "truncated.mp4", numbered(count, seed=3), fps=12, options={"movflags": "+faststart"})
    _cut_off(folder / "truncated.mp4", 0.5)
    record(folder / "corrupt_middle.mp4", _drift(4, 3 * count), fps=12)
    _damage(folder / "corrupt_middle.mp4")
    record(folder / "rotated_phone.mp4", _drift(5, count), fps=12, rotation=270)
    record(folder / "landscape_4k.mp4", _drift(6, round(clip_seconds * 9) + 2, 3840, 2160), fps=9)
    record(folder / "no_person.mp4", _drift(7, count), fps=12)
    return {
        "zero_bytes.mp4": "empty file",
        "text.mp4": "not a video",
        "sound_only.mp4": "no video stream",
        "one_picture.mp4": "is shorter than one clip of",
        "four_fps.mp4": "4 fps is below the 8 fps",
        "no_index.mp4": "unreadable header",
        "truncated.mp4": "broken at",
        "corrupt_middle.mp4": "broken at",
        "rotated_phone.mp4": "no person",
        "landscape_4k.mp4": "no person",
        "no_person.mp4": "no person",
    }


def _drift(seed: int, count: int, width: int = 320, height: int = 240) -> Iterator[np.ndarray]:
    """A texture that moves to the right."""
    picture = np.kron(scene(seed, 160, 120), np.ones((height // 120, width // 160, 1), np.uint8))
    for step in range(count):
        yield np.roll(picture, 4 * step, axis=1)


def _cut_off(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 8] = np.random.default_rng(0).bytes(len(data) // 8)
    path.write_bytes(data)
