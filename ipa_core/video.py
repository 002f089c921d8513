"""Reads and writes videos and pictures. Pictures are uint8 RGB ``[H, W, 3]``, upright, with square pixels, in the
colours of BT.709."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import BinaryIO, Final

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream

from ipa_core.colours import CONVERSION
from ipa_core.reading import LOOKED_AT, Pictures, Reading, Shown, Turn, progressive, reading_of
from ipa_core.records import Rejected
from ipa_core.scratch import scratch_folder
from ipa_core.streams import Damage, all_streams, decoded, duration_of, findings, opened

_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Turn(False, True, False),
    3: Turn(False, True, True),
    4: Turn(False, False, True),
    5: Turn(True, False, False),
    6: Turn(True, True, False),
    7: Turn(True, True, True),
    8: Turn(True, False, True),
}
"""EXIF 2.32, tag Orientation."""
_UNEVEN: Final = 0.6
"""Share of the rate that time stamps allow, below which the average says little about the usual rate."""


@dataclass(frozen=True)
class VideoInfo:
    """The header and the first pictures of a video.

    width, height: of the upright picture with square pixels.
    fps: pictures per second on average, fields if it is interlaced.
    duration: seconds; None if the header has none.
    """

    width: int
    height: int
    fps: float
    duration: float | None


class TimedFrame:
    """A picture and the time when it is shown, in seconds from the first picture.

    ``broken`` tells of damage between this picture and the one before.
    """

    def __init__(self, seconds: float, shown: Shown, broken: BrokenVideo | None = None) -> None:
        self.seconds = seconds
        self.shown = shown
        self.broken = broken

    @cached_property
    def picture(self) -> np.ndarray:
        """The whole picture, uint8 RGB ``[H, W, 3]``."""
        return self.shown.full()


class BrokenVideo(Rejected):
    """Pictures are missing from ``seconds`` on although the video goes on."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(seconds, reason)  # Exceptions travel between processes, so args has both.
        self.seconds = seconds
        self.reason = reason

    def __str__(self) -> str:
        return f"broken at {self.seconds:.1f} s: {self.reason}"


@dataclass(frozen=True)
class Look:
    """Facts about a video that decide how it is read, from its header and its first pictures."""

    traits: tuple[str, ...]
    """What the stage `clips` reads otherwise since its version 2; none for ordinary videos."""
    fps: float
    usual_fps: float
    """The rate without the pictures that stand still; of a screen recording it may be much higher."""


ORDINARY: Final = Look((), 0.0, 0.0)
LOOK_VERSION: Final = 2
"""Raise it when :func:`look` finds something else."""


UNTAGGED: Final = "untagged"
"""The trait of videos that have more than a few lines and do not tell their colours."""
LARGE: Final = "large"
"""The trait of videos whose shorter side is above :data:`_LARGE_SIDE` pixels."""
_LARGE_SIDE: Final = 720


def look(source: Path | BinaryIO) -> Look:
    """Read the header and decode the first pictures. Raises ``Rejected`` when no picture can be decoded."""
    with opened(source) as (container, stream):
        first, reading, begins_late = _first(container, stream)
        traits = [*reading.traits, *(["start"] if begins_late else [])]
        if min(first.width, first.height) > _LARGE_SIDE and not first.format.is_bit_stream:
            traits.append(LARGE)
        if all_streams(container)[0].index != stream.index:
            traits.append("stream")
        fps = float(_rate(stream)) * (2 if reading.interlaced else 1)
        highest = float(stream.guessed_rate or 0)
    is_uneven = fps < _UNEVEN * highest
    if not isinstance(source, Path):
        source.seek(0)
    return Look(tuple(sorted(traits)), fps, usual_fps(source) if is_uneven else fps)


def usual_fps(source: Path | BinaryIO) -> float:
    """Return the rate that most pictures of a video have. Reads the whole file, without decoding it."""
    with opened(source) as (container, stream), findings(Rejected):
        times = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        steps = [after - before for before, after in pairwise(times) if after > before]
        if not steps or stream.time_base is None:
            return float(_rate(stream))
        return float(1 / (median(steps) * stream.time_base))


def probe(path: Path) -> VideoInfo:
    """Read the header and decode the first pictures. Raises ``Rejected`` when that fails."""
    with opened(path) as (container, stream):
        first, reading, _ = _first(container, stream)
        width, height = Pictures(reading, stream.sample_aspect_ratio).size(first)
        rate = float(_rate(stream)) * (2 if reading.interlaced else 1)
        return VideoInfo(width, height, rate, duration_of(container, stream))


def _first(container: InputContainer, stream: VideoStream) -> tuple[VideoFrame, Reading, bool]:
    """Decode the first pictures. Return the first, how all are read, and whether pictures before it are lost."""
    found = list(islice(decoded(container, stream, math.inf), LOOKED_AT))
    lost = next((one.reason for one in found if isinstance(one, Damage)), None)
    if all(isinstance(one, Damage) for one in found):  # A cut recording may lack many pictures at first.
        found += islice((one for one in decoded(container, stream, math.inf) if not isinstance(one, Damage)), 1)
    pictures = [one for one in found if isinstance(one, VideoFrame)]
    if not pictures:
        raise Rejected("no picture can be decoded" + (f": {lost}" if lost else ""))
    return pictures[0], reading_of(pictures, stream), isinstance(found[0], Damage)


def frames(path: Path, most_pixels: float = math.inf, *, as_sd: bool = False) -> Iterator[TimedFrame]:
    """Decode all whole pictures in the order in which they are shown, and no more than ``most_pixels``.

    Times rise strictly: a picture without a time stamp, or with one that goes back, comes one average picture after the
    last. Interlaced video gives a picture per field. Raises ``Rejected`` when the file is no video. Behind damage the
    pictures go on with the next key picture, which tells of it. Raises :class:`BrokenVideo` at the end when no picture
    follows the damage, or when the file ends early. ``as_sd`` reads colours without a tag as those of BT.601 whatever
    the size, as earlier versions did.
    """
    with opened(path) as (container, stream):
        _, reading, _ = _first(container, stream)
    if as_sd and reading.colour == UNTAGGED:
        reading = replace(reading, colour="plain")
    with opened(path) as (container, stream):
        pictures = Pictures(reading, stream.sample_aspect_ratio)
        found = decoded(container, stream, most_pixels)
        step = float(1 / _rate(stream))
        if reading.interlaced and stream.time_base is not None:
            found, step = progressive(found, stream.time_base), step / 2
        start: float | None = None
        seconds = -step
        broken: BrokenVideo | None = None
        for one in found:
            if isinstance(one, Damage):
                broken = broken or BrokenVideo(seconds + step, one.reason)
                continue
            if start is None and one.time is not None:
                start = one.time - (seconds + step)
            shown = one.time - start if start is not None and one.time is not None else seconds
            seconds = shown if shown > seconds else seconds + step
            yield TimedFrame(seconds, Shown(one, pictures), broken)
            broken = None
        if broken:
            raise broken


def encode_video(frames: np.ndarray, fps: float, *, crf: int = 12, preset: str = "medium") -> bytes:
    """Encode uint8 ``[T, H, W, 3]`` as H.264 mp4 (yuv420p, BT.709). The same pictures give the same bytes. Raises
    ``ValueError`` for other shapes, and for odd sizes, because yuv420p has none."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise ValueError(f"encode_video wants uint8 frames [T, H, W, 3], got {frames.dtype} {frames.shape}")
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"H.264 wants even sizes, got {width} x {height}")
    # The output is a file because faststart reads it again to move the index to the front.
    with scratch_folder() as folder:
        path = folder / "video.mp4"
        options = {"movflags": "+faststart", "fflags": "+bitexact"}  # bitexact leaves out the writer's version
        with av.open(str(path), "w", format="mp4", options=options) as container:
            # Without cpu-independent, x264 takes other algorithms on other processors. Some of them, for AVX-512, read
            # uninitialised memory (mbtree with B-frames), so the same pictures sometimes give other bytes.
            settings = {"preset": preset, "crf": str(crf), "flags": "+bitexact", "x264-params": "cpu-independent=1"}
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=settings)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            coder = stream.codec_context
            coder.thread_count = 1  # More threads divide the pictures differently and give other bytes.
            coder.colorspace, coder.color_range = Colorspace.ITU709, ColorRange.MPEG
            coder.color_primaries, coder.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
            for picture in frames:
                container.mux(stream.encode(_for_encoder(picture)))
            container.mux(stream.encode())
        return path.read_bytes()


def decode_video(video: bytes | Path) -> np.ndarray:
    """Decode all pictures that :func:`encode_video` wrote: uint8 ``[T, H, W, 3]``, exactly the T that went in. Raises
    ``Rejected`` when the bytes are damaged or no video. For videos of other origin use :func:`frames`."""
    with opened(video) as (container, stream), findings(Rejected):
        pictures = Pictures(Reading(), stream.sample_aspect_ratio)
        return np.stack([pictures.full(frame) for frame in container.decode(stream)])


def encode_png(picture: np.ndarray) -> bytes:
    """Encode uint8 ``[H, W, 3]`` as PNG. The same picture gives the same bytes."""
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def decode_png(data: bytes) -> np.ndarray:
    """Decode PNG (or another format that OpenCV reads) to uint8 ``[H, W, 3]``. Raises ``Rejected`` for other bytes."""
    return cv2.cvtColor(_decoded(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _decoded(data: bytes, how: int) -> np.ndarray:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), how) if data else None
    except cv2.error:  # Its header asks for more pixels than OpenCV takes.
        raise Rejected("not a picture, or too large a one") from None
    if picture is None:
        raise Rejected("not a picture")
    return np.asarray(picture)


def decode_picture(data: bytes) -> np.ndarray:
    """Decode a picture of any origin to uint8 ``[H, W, 3]``, upright. Transparent parts are over white. Raises
    ``Rejected`` for other bytes."""
    picture = decode_png(data)
    raw = _decoded(data, cv2.IMREAD_UNCHANGED)
    if raw.ndim != 3 or raw.shape[2] != 4:
        return picture
    shades = _turn_of(data)(raw).astype(np.float32) / (65535 if raw.dtype == np.uint16 else 255)
    over = shades[..., 2::-1] * shades[..., 3:] + (1 - shades[..., 3:])
    return np.round(255 * over).astype(np.uint8)


def _turn_of(data: bytes) -> Turn:
    """Return the turn that a PNG or WebP asks for (EXIF), which OpenCV leaves out where it keeps transparency."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            orientation = 1 if picture.format == "TIFF" else picture.getexif().get(_ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # What Pillow does not read has no turn.
        orientation = 1
    return _TURNS.get(orientation, Turn())


def fitted(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the largest centred part of the target's aspect ratio, resized. A picture of that size stays as it is."""
    rows, columns = picture.shape[:2]
    if (rows, columns) == (height, width):
        return picture
    scale = min(columns / width, rows / height)
    part_width, part_height = round(width * scale), round(height * scale)
    left, top = (columns - part_width) // 2, (rows - part_height) // 2
    part = picture[top : top + part_height, left : left + part_width]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(part, (width, height), interpolation=method))


def _rate(stream: VideoStream) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise Rejected("unreadable header: no frame rate")
    return rate


def _for_encoder(picture: np.ndarray) -> VideoFrame:
    return VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=CONVERSION | Interpolation.FULL_CHR_H_INP,
        threads=1,
    )
