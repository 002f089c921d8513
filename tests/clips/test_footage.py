"""Footage as cameras, phones and recorders make it: each kind gives the pictures that a viewer sees."""

import os
import struct
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ipa_core.clips.cut import CutClip, DroppedWindow, cut_video
from ipa_core.config import ClipsConfig
from ipa_core.records import Box, Rejected
from ipa_core.video import frames, look, probe
from tests.clips.kinds import FLAGS, KINDS, Kind, interlaced, moving, psnr, write, yuv
from tests.clips.recordings import number_of, numbered, record, record_sound

CONFIG = ClipsConfig(sources=("unused",), frames=17, fps=16, width=160, height=112, crop="center")


def cut(path: Path, **changes: object) -> list[CutClip | DroppedWindow]:
    return list(cut_video(path, "ab" * 32, CONFIG.model_copy(update=changes), find_people=None))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.name} against {kind.against}")
def test_pictures_are_those_of_ffmpeg(kind: Kind, tmp_path: Path) -> None:
    path, right = kind.write(tmp_path)
    ours = [frame.picture for frame in frames(path)]
    assert len(ours) == len(right)
    assert psnr(ours, right) >= kind.least


@pytest.mark.parametrize(
    ("kind", "traits"),
    [("hflip", ("mirrored",)), ("HLG", ("hlg",)), ("50i", ("interlaced",)), ("720p without a tag", ("untagged",))],
)
def test_a_look_tells_what_is_read_otherwise(kind: str, traits: tuple[str, ...], tmp_path: Path) -> None:
    path, _ = next(one for one in KINDS if one.name == kind).write(tmp_path)
    assert look(path).traits == traits


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_look_at_ordinary_footage_finds_nothing(rotation: int, tmp_path: Path) -> None:
    assert look(record(tmp_path / "a.mp4", numbered(5), rotation=rotation)).traits == ()


def test_small_footage_without_a_tag_keeps_its_colours(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [yuv(picture) for picture in moving(2)])
    assert look(path).traits == ()


def test_untagged_footage_can_still_be_read_as_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [yuv(picture) for picture in moving(2, 1280, 720)])
    with av.open(str(path)) as container:
        before = [frame.to_ndarray(format="rgb24", interpolation=FLAGS) for frame in container.decode(video=0)]
    assert psnr([frame.picture for frame in frames(path, as_sd=True)], before) == np.inf


@pytest.mark.parametrize("degrees", [45, 10])
def test_a_tilted_recording_is_rejected(degrees: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [yuv(picture) for picture in moving(2)], display=(degrees, False, False))
    with pytest.raises(Rejected, match="turns the pictures by no quarter turn, or shears them"):
        probe(path)


def test_a_sheared_recording_is_rejected(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [yuv(picture) for picture in moving(2)], display=(0, False, False))
    one = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    sheared = struct.pack(">9i", 65536, 0, 0, 32768, 65536, 0, 0, 0, 1 << 30)
    head, track = path.read_bytes().split(b"tkhd")
    path.write_bytes(head + b"tkhd" + track.replace(one, sheared, 1))
    with pytest.raises(Rejected, match="shears them"):
        probe(path)


@pytest.mark.parametrize("tag", ["²", "quarter", "", "--90", "9" * 30])
def test_a_rotate_tag_that_is_no_number_counts_for_nothing(tag: str, tmp_path: Path) -> None:
    info = probe(record(tmp_path / "a.mkv", numbered(3), tags={"rotate": tag}))
    assert (info.width, info.height) == (160, 120)


@pytest.mark.parametrize("matrix", [10, 14])
def test_constant_luminance_is_rejected(matrix: int, tmp_path: Path) -> None:
    tags = {"colorspace": matrix, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    path = write(tmp_path / "a.mp4", [yuv(picture) for picture in moving(2)], tags=tags)
    with pytest.raises(Rejected, match="constant luminance"):
        probe(path)


def test_dolby_vision_alone_is_rejected(tmp_path: Path) -> None:
    options = {"x265-params": "log-level=none"}
    path = write(tmp_path / "a.mp4", [yuv(picture) for picture in moving(2)], codec="libx265", options=options)
    path.write_bytes(path.read_bytes().replace(b"hev1", b"dvhe"))
    with pytest.raises(Rejected, match="Dolby Vision without HDR10 or HLG"):
        probe(path)


def test_the_rate_of_interlaced_footage_is_that_of_its_fields(tmp_path: Path) -> None:
    path, _ = interlaced(tmp_path)
    assert probe(path).fps == 50
    assert [frame.seconds for frame in frames(path)] == pytest.approx([index / 50 for index in range(20)])


# What is missing or damaged.


def packets(source: Path, target: Path, keeps: Callable[[int], bool], later: int = 0) -> Path:
    """Copy the packets whose number ``keeps``, with time stamps that are ``later``."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for number, packet in enumerate(old.demux(stream)):
            if packet.size and keeps(number):
                packet.stream = copy
                if later:
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                new.mux(packet)
    return target


CODECS = {
    "libx264": {"g": "12", "bf": "2", "crf": "10", "preset": "veryfast"},
    "libx265": {"crf": "12", "preset": "ultrafast", "x265-params": "log-level=none:keyint=12:bframes=2"},
    "mpeg4": {"g": "12", "bf": "2", "qscale": "2"},
}


def coded(path: Path, codec: str, count: int = 60) -> Path:
    pictures = [av.VideoFrame.from_ndarray(one, format="rgb24").reformat(format="yuv420p") for one in numbered(count)]
    return write(path, pictures, codec=codec, options=CODECS[codec], rate=30)


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "ts"), ("libx265", "mp4"), ("mpeg4", "avi")])
def test_a_recording_that_begins_between_key_pictures(codec: str, suffix: str, tmp_path: Path) -> None:
    whole = coded(tmp_path / f"a.{suffix}", codec)
    found = list(frames(packets(whole, tmp_path / f"b.{suffix}", lambda number: number >= 5)))
    right = [frame.picture for frame in frames(whole)][12:]
    assert psnr([frame.picture for frame in found], right) == np.inf
    assert len(found) == len(right)


def test_pictures_that_are_lost_at_the_start_are_said(tmp_path: Path) -> None:
    path = packets(coded(tmp_path / "a.mp4", "libx265"), tmp_path / "b.mp4", lambda number: number >= 5)
    first, *_ = cut(path)
    assert isinstance(first, DroppedWindow)
    assert first.reason == "broken at 0.0 s: invalid data found when processing input"
    assert look(path).traits == ("start",)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_video_goes_on_behind_lost_packets(suffix: str, tmp_path: Path) -> None:
    whole = coded(tmp_path / f"a.{suffix}", "libx264")
    found = list(frames(packets(whole, tmp_path / f"b.{suffix}", lambda number: not 30 <= number < 33)))
    originals = [frame.picture for frame in frames(whole)]
    (behind,) = [index for index, frame in enumerate(found) if frame.broken]
    assert 25 <= behind <= 30
    assert [number_of(frame.picture) for frame in found[behind:]] == list(range(36, 60))
    assert psnr([frame.picture for frame in found], originals[:behind] + originals[36:]) == np.inf


def test_no_window_crosses_damage(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(120), fps=16)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1000] = np.random.default_rng(0).bytes(1000)
    path.write_bytes(data)
    parts = cut(path)
    (damage,) = [at for at, part in enumerate(parts) if isinstance(part, DroppedWindow) and "broken" in part.reason]
    clips = [part for part in parts if isinstance(part, CutClip)]
    assert clips[0].index < damage < clips[-1].index
    for clip in clips:
        first = round(16 * clip.start)
        assert [number_of(picture) for picture in clip.frames] == list(range(first, first + 17))


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_sound_may_be_longer_than_the_picture(suffix: str, tmp_path: Path) -> None:
    sound = record_sound(tmp_path / "sound.mp4", seconds=5)
    picture = record(tmp_path / "picture.mp4", numbered(40), fps=16)
    path = tmp_path / f"both.{suffix}"
    with av.open(str(sound)) as one, av.open(str(picture)) as other, av.open(str(path), "w") as both:
        sources = (other.streams.video[0], one.streams.audio[0])
        copies = {stream: both.add_stream_from_template(stream) for stream in sources}
        found = [packet for container in (other, one) for packet in container.demux() if packet.size]
        for packet in sorted(found, key=lambda packet: packet.dts * packet.time_base):
            packet.stream = copies[packet.stream]
            both.mux(packet)
    assert [number_of(frame.picture) for frame in frames(path)] == list(range(40))


def test_a_clock_that_starts_again_at_zero(tmp_path: Path) -> None:
    whole = record(tmp_path / "a.ts", numbered(60))
    path = packets(whole, tmp_path / "b.ts", lambda number: True, later=2**33 - 90_000 * 2)
    assert [frame.seconds for frame in frames(path)] == pytest.approx([index / 30 for index in range(60)], abs=1e-4)


def test_a_screen_recording_with_a_still_end(tmp_path: Path) -> None:
    times = [*(index / 30 for index in range(40)), 20.0]
    path = record(tmp_path / "a.mp4", numbered(41), times=times)
    assert probe(path).fps < 8
    clip, *_, end = cut(path)
    assert isinstance(clip, CutClip)
    assert [number_of(picture) for picture in clip.frames][:4] == [0, 2, 4, 6]
    assert isinstance(end, DroppedWindow)


def test_parts_of_a_screen_recording_whose_hands_would_jump(tmp_path: Path) -> None:
    moves = [index / 30 for index in range(40)]
    slow = [2 + index / 4 for index in range(30)]
    clip, *others = cut(record(tmp_path / "a.mp4", numbered(70), times=[*moves, *slow]))
    assert isinstance(clip, CutClip)
    assert all(isinstance(one, DroppedWindow) for one in others)


def test_another_size_is_another_part(tmp_path: Path) -> None:
    one = record(tmp_path / "one.h264", numbered(34))
    other = record(tmp_path / "other.h264", numbered(34, width=128, height=160))
    path = tmp_path / "both.h264"
    path.write_bytes(one.read_bytes() + other.read_bytes())
    found = [part for part in cut(path, width=64, height=64, min_source_fps=1) if isinstance(part, CutClip)]
    assert [part.crop for part in found][:: len(found) - 1] == [
        Box(x=20, y=0, width=120, height=120),
        Box(x=0, y=16, width=128, height=128),
    ]


@pytest.mark.parametrize("small_first", [True, False])
def test_the_largest_stream_is_read(small_first: bool, tmp_path: Path) -> None:
    path, sizes = tmp_path / "a.mp4", [(64, 48), (160, 120)]
    with av.open(str(path), "w") as container:
        streams = []
        for width, height in sizes if small_first else sizes[::-1]:
            stream = container.add_stream("libx264", rate=16)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        for stream in streams:
            for picture in numbered(5, width=stream.width, height=stream.height):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    assert (probe(path).width, probe(path).height) == (160, 120)
    assert look(path).traits == (("stream",) if small_first else ())


# Files that are no videos, or lie about what they hold.


def test_a_format_without_a_decoder(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(3))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"xyz1"))
    with pytest.raises(Rejected, match="no decoder reads this video's format"):
        probe(path)


@pytest.mark.parametrize("atom", ["stts", "stsz", "stsc", "stco", "ctts", "elst"])
@pytest.mark.parametrize("number", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_lying_count_is_a_finding(atom: str, number: int, tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(12))
    data = path.read_bytes()
    for offset in (4, 8, 12, 16):
        at = data.find(atom.encode()) + offset
        path.write_bytes(data[:at] + struct.pack(">I", number) + data[at + 4 :])
        with suppress(Rejected):
            assert len(list(frames(path))) <= 12


def test_pixels_that_are_much_wider_than_high(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(3), pixel_aspect=Fraction(4, 3))
    path.write_bytes(
        path.read_bytes().replace(b"pasp" + struct.pack(">2I", 4, 3), b"pasp" + struct.pack(">2I", 1000, 1))
    )
    with pytest.raises(Rejected, match=r"160000 x 120 pixels; at most 16384 on a side and 134 million in all"):
        probe(path)


def test_a_limit_of_pixels_keeps_what_came_before(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(51), fps=16)
    clip, *_, last = cut(path, max_gigapixels=30 * 160 * 120 / 1e9)
    assert isinstance(clip, CutClip)
    assert isinstance(last, DroppedWindow)
    assert last.reason.startswith(
        "broken at 1.9 s: all that follows is left out, because more than 0.000576 gigapixels"
    )


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(Rejected, match="no regular file"):
        probe(tmp_path / "a.mp4")


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(Rejected, match="no regular file"):
        probe(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a\nb.mp4", "a" * 251 + ".mp4"])
def test_odd_names(name: str, tmp_path: Path) -> None:
    assert probe(record(tmp_path / "a.mp4", numbered(3)).rename(tmp_path / name)).width == 160
