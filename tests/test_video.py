import io
import pickle
import struct
import zlib
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ipa_core.records import Rejected
from ipa_core.video import (
    BrokenVideo,
    decode_picture,
    decode_png,
    decode_video,
    encode_png,
    encode_video,
    frames,
    probe,
)
from tests.clips.recordings import number_of, numbered, record, record_sound, scene


def test_all_pictures_come_in_order_with_their_times(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(50), fps=25)
    found = list(frames(path))
    assert [number_of(frame.picture) for frame in found] == list(range(50))
    assert [frame.seconds for frame in found] == pytest.approx([index / 25 for index in range(50)])


def test_probe(tmp_path: Path) -> None:
    info = probe(record(tmp_path / "a.mp4", numbered(50), fps=25))
    assert (info.width, info.height, info.fps) == (160, 120, 25)
    assert info.duration == 2.0


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi", "ts"])
def test_containers(tmp_path: Path, suffix: str) -> None:
    path = record(tmp_path / f"a.{suffix}", numbered(30))
    assert [number_of(frame.picture) for frame in frames(path)] == list(range(30))


def test_pictures_without_time_stamps_are_spaced_evenly(tmp_path: Path) -> None:
    found = list(frames(record(tmp_path / "a.h264", numbered(30))))
    assert [number_of(frame.picture) for frame in found] == list(range(30))
    steps = np.diff([frame.seconds for frame in found])
    assert steps == pytest.approx(steps[0])


def test_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.2, 0.21, 0.5]
    path = record(tmp_path / "a.mp4", numbered(5), times=times)
    assert [frame.seconds for frame in frames(path)] == pytest.approx(times, abs=1e-3)


def test_times_start_at_the_first_picture(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mkv", numbered(3), times=[7.0, 7.1, 7.2])
    assert [frame.seconds for frame in frames(path)] == pytest.approx([0, 0.1, 0.2], abs=2e-3)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_pictures_are_upright(tmp_path: Path, rotation: int) -> None:
    upright = scene(3, 96, 128)
    stored = np.rot90(upright, -rotation // 90)
    path = record(tmp_path / "a.mp4", [np.ascontiguousarray(stored)] * 3, rotation=rotation)
    info = probe(path)
    assert (info.width, info.height) == (96, 128)
    for frame in frames(path):
        assert np.abs(frame.picture.astype(int) - upright).mean() < 5


def test_the_rotate_tag_counts_clockwise(tmp_path: Path) -> None:
    upright = scene(3, 96, 128)
    stored = np.ascontiguousarray(np.rot90(upright))
    path = record(tmp_path / "a.mkv", [stored] * 3, tags={"rotate": "90"})
    assert np.abs(next(frames(path)).picture.astype(int) - upright).mean() < 5


def test_pixels_become_square(tmp_path: Path) -> None:
    info = probe(record(tmp_path / "a.mp4", numbered(3), pixel_aspect=Fraction(4, 3)))
    assert (info.width, info.height) == (213, 120)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"this is a shopping list\n" * 50, "not a video"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n", "not a video"),
        (bytes(5000), "not a video"),
    ],
)
def test_no_video(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(Rejected, match=reason):
        probe(path)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    record(tmp_path / "other.ts", numbered(3))
    path = tmp_path / "a.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(Rejected):
        probe(path)


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone(tmp_path: Path, cover: bool) -> None:
    with pytest.raises(Rejected, match="no video stream"):
        probe(record_sound(tmp_path / "a.mp4", cover=cover))


def test_a_missing_index(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp4", numbered(50))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Rejected, match="unreadable header"):
        probe(path)


def test_a_missing_file_is_no_finding(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "a.mp4")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_missing_end_is_said_after_the_good_part(tmp_path: Path, suffix: str) -> None:
    path = record(tmp_path / f"a.{suffix}", numbered(120), options={"movflags": "+faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    good = []
    with pytest.raises(BrokenVideo) as broken:
        good.extend(number_of(frame.picture) for frame in frames(path))
    assert good == list(range(len(good)))
    assert 20 < len(good) < 100
    assert broken.value.seconds == pytest.approx(len(good) / 30, abs=0.05)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pictures_go_on_behind_damage_with_the_next_key_picture(tmp_path: Path, suffix: str) -> None:
    path = record(tmp_path / f"a.{suffix}", numbered(120))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    path.write_bytes(data)
    good = list(frames(path))
    assert [number_of(frame.picture) for frame in good] == [round(30 * frame.seconds) for frame in good]
    (at,) = [index for index, frame in enumerate(good) if frame.broken]
    assert number_of(good[at].picture) % 12 == 0
    assert 20 < at < number_of(good[at].picture) < 110


def test_broken_video_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BrokenVideo(3.25, "bad data")))  # noqa: S301
    assert str(error) == "broken at 3.2 s: bad data"


def test_ffmpeg_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path / "a.mp4", numbered(60), options={"movflags": "+faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BrokenVideo):
        list(frames(path))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("count", [1, 2, 17, 50])
def test_what_is_encoded_comes_back(count: int) -> None:
    pictures = np.stack(numbered(count))
    back = decode_video(encode_video(pictures, 16))
    assert back.shape == pictures.shape
    assert [number_of(picture) for picture in back] == list(range(count))


def test_encoding_keeps_colours() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 30, 90), (128, 128, 128)]
    pictures = np.stack([np.full((32, 48, 3), colour, np.uint8) for colour in colours])
    assert np.abs(decode_video(encode_video(pictures, 16)).astype(int) - pictures).max() <= 4


def test_encoding_a_picture_again_keeps_its_brightness() -> None:
    pictures = np.stack([scene(seed) for seed in range(4)])
    difference = decode_video(encode_video(pictures, 16)).astype(int) - pictures
    assert np.abs(difference.mean((0, 1, 2))).max() < 0.3


def test_the_same_pictures_give_the_same_bytes() -> None:
    pictures = np.stack(numbered(20))
    assert encode_video(pictures, 16) == encode_video(pictures.copy(order="F"), 16)


def test_the_same_pictures_give_the_same_bytes_whatever_lies_in_memory() -> None:
    """x264 without cpu-independent read what others had left there: with AVX-512 every second time other bytes."""
    source = min((Path(__file__).parents[1] / "demo" / "videos").glob("*.mp4"))
    sizes = np.random.default_rng(0).integers(1_000, 300_000, (25, 20))
    found = set()
    for left in sizes:
        pictures = np.stack([cv2.resize(frame.picture, (96, 96)) for frame in islice(frames(source), 0, 10, 2)])
        for size in left:
            np.random.default_rng(int(size)).random(size // 8)
        found.add(encode_video(pictures, 8))
    assert len(found) == 1


def test_encoded_rate_and_index_in_front(tmp_path: Path) -> None:
    data = encode_video(np.stack(numbered(4)), 29.97)
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    (tmp_path / "a.mp4").write_bytes(data)
    assert probe(tmp_path / "a.mp4").fps == pytest.approx(29.97)


@pytest.mark.parametrize("shape", [(4, 31, 32, 3), (4, 32, 31, 3), (0, 32, 32, 3), (4, 32, 32), (4, 32, 32, 4)])
def test_shapes_that_can_not_be_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="wants"):
        encode_video(np.zeros(shape, np.uint8), 16)


def test_damaged_bytes_are_rejected() -> None:
    data = encode_video(np.stack(numbered(50)), 16)
    with pytest.raises(Rejected):
        decode_video(data[: len(data) // 2])


def test_png_is_exact() -> None:
    picture = scene(1, 31, 17)
    data = encode_png(picture)
    assert data == encode_png(picture)
    np.testing.assert_array_equal(decode_png(data), picture)


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_no_picture(data: bytes) -> None:
    with pytest.raises(Rejected, match="not a picture"):
        decode_png(data)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_transparent_parts_of_a_picture_are_over_white(kind: type[np.unsignedinteger]) -> None:
    top = np.iinfo(kind).max
    blue = np.array([[[top, 0, 0, 0], [top, 0, 0, top], [0, 0, 0, top // 2]]], kind)  # BGR and how opaque
    _, data = cv2.imencode(".png", blue)
    found = decode_picture(data.tobytes())
    assert np.abs(found.astype(int) - [[[255, 255, 255], [0, 0, 255], [128, 128, 128]]]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_transparent_picture_is_as_upright_as_an_opaque_one(kind: str, orientation: int) -> None:
    about = Image.Exif()
    about[0x0112] = orientation
    shades = np.random.default_rng(0).integers(0, 256, (4, 6, 4), np.uint8)
    shades[..., 3] = 255

    def written(mode: str) -> bytes:
        sink = io.BytesIO()
        Image.fromarray(shades).convert(mode).save(sink, kind, exif=about, lossless=True)
        return sink.getvalue()

    assert np.array_equal(decode_picture(written("RGBA")), decode_picture(written("RGB")))


HUGE = b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    for name, data in ((b"IHDR", struct.pack(">2I5B", 50_000, 50_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"")))
)


def test_a_picture_whose_header_asks_for_too_much_is_rejected() -> None:
    with pytest.raises(Rejected, match="too large"):
        decode_picture(HUGE)
