"""Opens the containers of videos and decodes their pictures, on one thread, because a run decodes many videos in
parallel processes. All that can be wrong with a file is a finding (``Rejected``), not an error of the machine."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ipa_core.records import Rejected

av.logging.set_level(av.logging.PANIC)  # Exceptions report bad files, stderr does not.

_LARGEST: Final = 2**27
"""Most pixels of a picture (16K UHD). A header may ask for any number, and each takes memory."""
_LONGEST_SIDE: Final = 2**14
_STILL: Final = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_TRUSTING: Final = frozenset({"flv", "h263", "mpeg4", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2"})
"""Decoders that show a picture although it lacks what it refers to."""
_MISSING_END: Final = 1.0
"""Seconds by which a file may end before the duration that its header says."""


def all_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams that are no cover."""
    return [one for one in container.streams.video if not one.disposition & Disposition.attached_pic]


@contextmanager
def opened(source: bytes | Path | BinaryIO) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the container and find its largest moving video stream. Raises ``Rejected``, and ``OSError`` for a missing
    file."""
    with _file(source) as file:
        start = file.read(16)
        if not start:
            raise Rejected("empty file")
        file.seek(0)
        is_mp4 = start[4:8] == b"ftyp"
        # Without protocols, a playlist that is named like a video can't make the decoder open other files or URLs.
        options = {"protocol_whitelist": ""}
        with findings(lambda reason: Rejected(f"unreadable header: {reason}" if is_mp4 else "not a video")):
            container = av.open(file, "r", options=options, metadata_errors="replace")
        with container:
            stream = _largest(container)
            coder = stream.codec_context
            check_size(coder.width, coder.height)
            coder.thread_count = 1
            # Report damage instead of hiding it.
            coder.options = {"err_detect": "explode", "max_pixels": str(_LARGEST)}
            yield container, stream


@contextmanager
def _file(source: bytes | Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    if not isinstance(source, Path):
        yield source
        return
    if source.exists() and not source.is_file():  # Opening a pipe would wait for ever.
        raise Rejected("no regular file")
    with source.open("rb") as file:
        yield file


def _largest(container: InputContainer) -> VideoStream:
    """Return the largest stream that moves; the others are covers, thumbnails and previews."""
    moving = [one for one in all_streams(container) if not one.disposition & _STILL]
    if not (moving := [one for one in moving if one.frames != 1] or moving or all_streams(container)):
        raise Rejected("no video stream")
    # PyAV gives no coder for a format that this build can't decode, or that a damaged header names.
    if not (readable := [one for one in moving if one.codec_context is not None]):
        raise Rejected("no decoder reads this video's format; convert it to H.264")
    return max(readable, key=lambda one: one.codec_context.width * one.codec_context.height)


@contextmanager
def findings(rejected: Callable[[str], Rejected]) -> Iterator[None]:
    """Turn ffmpeg's errors about the data into findings. So is its lack of memory: a damaged number in a header asks
    for more than there is."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise rejected(str(error.strerror).lower()) from None


def check_size(width: int, height: int) -> None:
    """Raise ``Rejected`` for a picture that is too large."""
    if width * height > _LARGEST or max(width, height) > _LONGEST_SIDE:
        raise Rejected(
            f"its pictures have {width} x {height} pixels; at most {_LONGEST_SIDE} on a side and {_LARGEST // 10**6} "
            "million in all are read"
        )


@dataclass(frozen=True)
class Damage:
    """A part of a video that can't be decoded."""

    reason: str


def decoded(container: InputContainer, stream: VideoStream, most_pixels: float) -> Iterator[VideoFrame | Damage]:
    """Decode all pictures that are whole, in the order in which they are shown.

    A recording that was cut out of another begins with pictures that lack what they refer to: they are left out.
    Behind damage in the middle the next picture is a key picture, because the pictures before it would be smeared.
    Stops after ``most_pixels`` in all, or when the file ends early. Each gap is a :class:`Damage`.
    """
    coder = stream.codec_context
    pixels, begun, waits = 0, False, False
    clock = _Clock(container, stream)
    for number, packet in enumerate(clock.packets()):
        if isinstance(packet, Damage):
            yield packet
            return
        if number == 0 and not packet.is_keyframe and coder.name in _TRUSTING:
            waits = True
            yield Damage("the file begins between two key pictures")
        if waits and not packet.is_keyframe:
            continue
        waits = False
        try:
            found = stream.decode(packet)
        except av.error.FFmpegError as error:
            yield Damage(str(error.strerror).lower())
            if begun:  # A picture that is half decoded could still come out.
                coder.flush_buffers()
                begun, waits = False, True
            continue
        for frame in found:
            pixels += frame.width * frame.height
            if pixels > most_pixels:
                yield Damage(
                    f"all that follows is left out, because more than {most_pixels / 1e9:g} gigapixels lie here"
                )
                return
            begun = True
            yield frame
    if clock.is_early():
        yield Damage(f"the file ends early, its header says {clock.duration:.1f} s")


class _Clock:
    """Reads the packets of a container and the time to which they reach."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        own = stream.duration is not None and stream.time_base is not None
        self.duration = duration_of(container, stream)
        # The container's duration may be that of the sound.
        self._counted = [stream] if own else list(container.streams)
        self._first: float | None = None
        self._last = 0.0

    def packets(self) -> Iterator[Packet[Any] | Damage]:
        """Yield the packets of the stream, the last one without data."""
        try:
            for packet in self._container.demux(self._counted):
                self._count(packet)
                if packet.stream.index == self._stream.index:  # Of the last packets, stream_index is always 0.
                    yield packet
        except av.error.FFmpegError as error:
            yield Damage(str(error.strerror).lower())

    def _count(self, packet: Packet[Any]) -> None:
        if packet.pts is not None and packet.time_base is not None:
            start = float(packet.pts * packet.time_base)
            self._first = start if self._first is None else min(self._first, start)
            self._last = max(self._last, start + float((packet.duration or 0) * packet.time_base))

    def is_early(self) -> bool:
        """Return whether the file ends before its header says."""
        if self.duration is None or self._first is None:
            return False
        # Some headers count their duration from zero, not from the first picture.
        reached = max(self._last, self._last - self._first)
        return reached < self.duration - _MISSING_END


def duration_of(container: InputContainer, stream: VideoStream) -> float | None:
    """Return the seconds that the header says, or None."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base
