"""Reads and writes videos and pictures. Pictures are uint8 RGB ``[H, W, 3]``, upright. PyAV decodes and encodes on one
thread, because a run decodes many videos in parallel processes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream

from ipa_core.records import Rejected
from ipa_core.scratch import scratch_folder

av.logging.set_level(av.logging.PANIC)  # Exceptions report bad files, stderr does not.

_CONVERSION: Final = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Without the last two flags, colours come back about 1.4 levels too dark."""
_MISSING_END: Final = 1.0
"""Seconds by which the pictures may end before the header's duration (which can be the sound's)."""


@dataclass(frozen=True)
class VideoInfo:
    """The header and the first picture of a video.

    width, height: of the upright picture with square pixels.
    fps: pictures per second on average.
    duration: seconds; None if the header has none.
    """

    width: int
    height: int
    fps: float
    duration: float | None


@dataclass(frozen=True, eq=False)
class TimedFrame:
    """A picture (uint8 RGB ``[H, W, 3]``) and the time when it is shown, in seconds from the first picture."""

    seconds: float
    picture: np.ndarray


class BrokenVideo(Rejected):
    """The pictures end at ``seconds`` although the video goes on."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(seconds, reason)  # Exceptions travel between processes, so args has both.
        self.seconds = seconds
        self.reason = reason

    def __str__(self) -> str:
        return f"broken at {self.seconds:.1f} s: {self.reason}"


def probe(path: Path) -> VideoInfo:
    """Read the header and decode the first picture. Raises ``Rejected`` when either fails."""
    with _open(path) as (container, stream):
        rate = _rate(stream)
        with _findings(lambda reason: Rejected(f"no picture can be decoded: {reason}")):
            first = next(container.decode(stream), None)
            if first is None:
                raise Rejected("no picture can be decoded")
            height, width = _upright(first, stream).shape[:2]
        return VideoInfo(width, height, float(rate), _duration(container, stream))


def frames(path: Path) -> Iterator[TimedFrame]:
    """Decode all pictures in the order in which they are shown, upright, with square pixels.

    Times rise strictly: a picture without a time stamp, or with one that goes back, comes one average picture after the
    last. Raises ``Rejected`` when the file is no video. Raises :class:`BrokenVideo` after the last good picture when
    decoding fails or the file ends early. Pictures behind the damage are not looked for.
    """
    with _open(path) as (container, stream):
        step = float(1 / _rate(stream))
        start: float | None = None
        seconds = -step
        with _findings(lambda reason: BrokenVideo(seconds + step, reason)):
            for frame in container.decode(stream):
                if start is None and frame.time is not None:
                    start = frame.time - (seconds + step)
                shown = frame.time - start if start is not None and frame.time is not None else seconds
                seconds = shown if shown > seconds else seconds + step
                yield TimedFrame(seconds, _upright(frame, stream))
        duration = _duration(container, stream)
        end = (start or 0) + seconds + step  # Some headers count their duration from zero, not from the first picture.
        if duration is not None and end < duration - _MISSING_END:
            raise BrokenVideo(seconds + step, f"the file ends early, its header says {duration:.1f} s")


def encode_video(frames: np.ndarray, fps: float, *, crf: int = 12) -> bytes:
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
            settings = {"preset": "medium", "crf": str(crf), "flags": "+bitexact", "x264-params": "cpu-independent=1"}
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
    with _open(video) as (container, stream), _findings(Rejected):
        return np.stack([_upright(frame, stream) for frame in container.decode(stream)])


def encode_png(picture: np.ndarray) -> bytes:
    """Encode uint8 ``[H, W, 3]`` as PNG. The same picture gives the same bytes."""
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def decode_png(data: bytes) -> np.ndarray:
    """Decode PNG (or another format that OpenCV reads) to uint8 ``[H, W, 3]``. Raises ``Rejected`` for other bytes."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise Rejected("not a picture")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


@contextmanager
def _open(source: bytes | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the container and find its video stream. Raises ``Rejected``, and ``OSError`` for a missing file."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        start = file.read(16)
        if not start:
            raise Rejected("empty file")
        file.seek(0)
        is_mp4 = start[4:8] == b"ftyp"
        # Without protocols, a playlist that is named like a video can't make the decoder open other files or URLs.
        options = {"protocol_whitelist": ""}
        with _findings(lambda reason: Rejected(f"unreadable header: {reason}" if is_mp4 else "not a video")):
            container = av.open(file, "r", options=options, metadata_errors="replace")
        with container:
            moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
            if not moving:
                raise Rejected("no video stream")
            coder = moving[0].codec_context
            coder.thread_count = 1
            coder.options = {"err_detect": "explode"}  # Report damage instead of hiding it.
            yield container, moving[0]


@contextmanager
def _findings(rejected: Callable[[str], Rejected]) -> Iterator[None]:
    """Turn ffmpeg's errors about the data into findings. Lack of memory stays an error."""
    try:
        yield
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise rejected(str(error.strerror).lower()) from None


def _rate(stream: VideoStream) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise Rejected("unreadable header: no frame rate")
    return rate


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


def _rotation(frame: VideoFrame, stream: VideoStream) -> int:
    """Read the display matrix, or else the ``rotate`` tag of older files, which counts clockwise."""
    tag = next((value for name, value in stream.metadata.items() if name.lower() == "rotate"), "")
    degrees = frame.rotation or (-int(tag) if tag.removeprefix("-").isdigit() else 0)
    return round(degrees / 90) * 90 % 360


def _upright(frame: VideoFrame, stream: VideoStream) -> np.ndarray:
    width = round(frame.width * (stream.sample_aspect_ratio or 1))
    picture = frame.to_ndarray(format="rgb24", width=width, interpolation=_CONVERSION, threads=1)
    return np.ascontiguousarray(np.rot90(picture, _rotation(frame, stream) // 90))


def _for_encoder(picture: np.ndarray) -> VideoFrame:
    return VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=_CONVERSION | Interpolation.FULL_CHR_H_INP,
        threads=1,
    )
