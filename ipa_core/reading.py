"""Finds how the pictures of a video must be read so that they are upright, progressive and in the colours of BT.709."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final, Literal, cast

import av.filter
import cv2
import numpy as np
from av.sidedata.sidedata import SideData, Type
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from ipa_core.colours import AREA, CONVERSION, ENLARGING, ToBT709, Transfer
from ipa_core.records import Box, Rejected
from ipa_core.streams import Damage, check_size

LOOKED_AT: Final = 4
"""Pictures from the start that tell how all are read."""

_UNSPECIFIED: Final = 2
_CONSTANT_LUMINANCE: Final = frozenset({10, 13, 14})
"""BT.2020 with constant luminance, the derived one, ICtCp (ITU-T H.273, table 4)."""
_DOLBY_COLOURS: Final = 15
_DOLBY_TAGS: Final = frozenset({"dvh1", "dvhe", "dva1", "dvav", "dav1"})
_HD_LINES: Final = 720
_OFF_AXIS: Final = 0.02
"""Share of a display matrix that may be off its axes, about one degree."""

Colour = Literal["plain", "untagged", "bt2020", "pq", "hlg"]
_TRANSFERS: Final[dict[str, Transfer]] = {"bt2020": "sdr", "pq": "pq", "hlg": "hlg"}


@dataclass(frozen=True)
class Turn:
    """How a stored picture becomes upright: first its sides are swapped, then it is mirrored."""

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False

    @property
    def mirrors(self) -> bool:
        """Return whether left and right hands change places."""
        return (self.transposed + self.left_right + self.top_bottom) % 2 == 1

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        turned = picture.swapaxes(0, 1) if self.transposed else picture
        turned = turned[:, ::-1] if self.left_right else turned
        return np.ascontiguousarray(turned[::-1] if self.top_bottom else turned)

    def stored(self, part: Box, width: int, height: int) -> Box:
        """Return where a part of the upright picture of ``width x height`` lies in the stored one."""
        left = width - part.x - part.width if self.left_right else part.x
        top = height - part.y - part.height if self.top_bottom else part.y
        if self.transposed:
            return Box(x=top, y=left, width=part.height, height=part.width)
        return Box(x=left, y=top, width=part.width, height=part.height)


@dataclass(frozen=True)
class Reading:
    """How the pictures of a video are read."""

    turn: Turn = Turn()
    interlaced: bool = False
    colour: Colour = "plain"
    refused: str | None = None
    """The reason why no picture can be read right."""

    @property
    def traits(self) -> Iterator[str]:
        """Names of what the stage `clips` reads otherwise since its version 2."""
        yield from ["refused"] if self.refused else []
        yield from ["mirrored"] if self.turn.mirrors else []
        yield from ["interlaced"] if self.interlaced else []
        yield from [] if self.colour == "plain" else [self.colour]


def reading_of(first: list[VideoFrame], stream: VideoStream) -> Reading:
    """Return how a video with these first pictures is read."""
    try:
        return Reading(
            turn=_turn(_matrix(first[0], stream)),
            interlaced=any(frame.interlaced_frame for frame in first),
            colour=_colour(first[0], stream),
        )
    except Rejected as finding:
        return Reading(refused=str(finding))


def _matrix(frame: VideoFrame, stream: VideoStream) -> tuple[float, float, float, float]:
    """Return a, b, c, d of the display matrix: a stored (x, y) is shown at (ax + cy, bx + dy). Older files have a tag
    ``rotate`` instead, which counts clockwise."""
    if (data := _side_data(frame).get(Type.DISPLAYMATRIX)) is not None:
        a, b, _, c, d = struct.unpack("=5i", data[:20])
        return a, b, c, d
    tag = next((value for name, value in stream.metadata.items() if name.lower() == "rotate"), "")
    if not re.fullmatch("-?[0-9]{1,9}", tag):
        return 1, 0, 0, 1
    angle = np.deg2rad(int(tag))
    return np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)


def _turn(matrix: tuple[float, float, float, float]) -> Turn:
    a, b, c, d = matrix
    size = max(map(abs, matrix)) * _OFF_AXIS
    if max(abs(b), abs(c)) <= size < min(abs(a), abs(d)):
        return Turn(False, a < 0, d < 0)
    if max(abs(a), abs(d)) <= size < min(abs(b), abs(c)):
        return Turn(True, c < 0, b < 0)
    if not any(matrix):
        return Turn()
    raise Rejected("its header turns the pictures by no quarter turn, or shears them; export it upright")


def _colour(frame: VideoFrame, stream: VideoStream) -> Colour:
    dolby = stream.codec_context.codec_tag in _DOLBY_TAGS or Type.DOVI_METADATA in _side_data(frame)
    if frame.colorspace == _DOLBY_COLOURS or (dolby and frame.color_trc == _UNSPECIFIED):
        raise Rejected("Dolby Vision without HDR10 or HLG below it (profile 5); export it as HDR10, HLG or SDR")
    if frame.colorspace in _CONSTANT_LUMINANCE:
        raise Rejected(
            "its colours have constant luminance, which isn't read; export it with the matrix BT.2020 or BT.709"
        )
    if frame.color_trc == ColorTrc.SMPTE2084:
        return "pq"
    if frame.color_trc == ColorTrc.ARIB_STD_B67:
        return "hlg"
    if frame.color_primaries == ColorPrimaries.BT2020 or frame.colorspace == Colorspace.BT2020:
        return "bt2020"
    untagged = frame.colorspace == _UNSPECIFIED and _has_colour_difference(frame.format)
    return "untagged" if untagged and frame.height >= _HD_LINES else "plain"


def _side_data(frame: VideoFrame) -> dict[Type, bytes]:
    return {one.type: bytes(one) for one in cast(Iterable[SideData], frame.side_data)}


def _has_colour_difference(kind: VideoFormat) -> bool:
    return not kind.is_rgb and not kind.has_palette and len(kind.components) > 2


class Pictures:
    """Makes uint8 RGB ``[H, W, 3]`` with square pixels of decoded frames, also when the container is closed. Raises
    ``Rejected`` where that can't be right."""

    def __init__(self, reading: Reading, pixel_aspect: Fraction | None = None) -> None:
        if reading.refused:
            raise Rejected(reading.refused)
        self._reading = reading
        self._pixel_aspect = pixel_aspect or Fraction(1)
        self._reformatter = VideoReformatter()
        self._sketcher = VideoReformatter()
        self._shrinker = VideoReformatter()
        self._cropper = _Cropper()
        self._matrix = Colorspace.ITU709 if reading.colour == "untagged" else None
        transfer = _TRANSFERS.get(reading.colour)
        self._to_bt709 = ToBT709(transfer) if transfer else None
        self._sketch_to_bt709 = ToBT709(transfer) if transfer else None

    def size(self, frame: VideoFrame) -> tuple[int, int]:
        """Return width and height of the upright picture."""
        width, height = round(frame.width * self._pixel_aspect), frame.height
        check_size(width, height)
        return (height, width) if self._reading.turn.transposed else (width, height)

    def full(self, frame: VideoFrame) -> np.ndarray:
        width = round(frame.width * self._pixel_aspect)
        check_size(width, frame.height)
        # Planes take less than half of the time, with the same values.
        planes = frame.format.name == "yuv420p" and width == frame.width
        return self._reading.turn(self._converted(frame, width, frame.height, CONVERSION, planes))

    def part(self, frame: VideoFrame, part: Box, width: int, height: int) -> np.ndarray:
        """Return a part of the upright picture as ``[height, width, 3]``. It is scaled once, before its colours are
        converted: area means where it shrinks."""
        if self._reading.turn.transposed:
            width, height = height, width
        stored = self._reading.turn.stored(part, *self.size(frame))
        how = AREA if stored.height > height else ENLARGING
        cut = self._cropper(frame, _across(stored, 1 / self._pixel_aspect))
        return self._reading.turn(self._converted(cut, width, height, how, planes=True))

    def smaller(self, frame: VideoFrame, scale: float) -> VideoFrame:
        """Return the stored picture in another size, in its own colours."""
        return self._shrinker.reformat(
            frame, round(frame.width * scale), round(frame.height * scale), interpolation=AREA, threads=1
        )

    def _converted(self, frame: VideoFrame, width: int, height: int, how: Interpolation, planes: bool) -> np.ndarray:
        if self._to_bt709:
            return self._to_bt709(frame, width, height, how)
        made = self._reformatter.reformat(
            frame, width, height, "gbrp" if planes else "rgb24", self._matrix, interpolation=how, threads=1
        )
        return _joined(made) if planes else made.to_ndarray()

    def sketch(self, frame: VideoFrame, width: int, height: int) -> np.ndarray:
        """Return every n-th pixel of the picture, ``[height, width, 3]``, in a fraction of the time. Colours between
        two pixels of the stored colour differ a little from those of :meth:`full`."""
        if self._reading.turn.transposed:
            width, height = height, width
        if self._sketch_to_bt709:
            return self._reading.turn(self._sketch_to_bt709(frame, width, height, Interpolation.POINT))
        made = self._sketcher.reformat(
            frame, width, height, "rgb24", self._matrix, interpolation=Interpolation.POINT, threads=1
        )
        return self._reading.turn(made.to_ndarray())


@dataclass(frozen=True, eq=False)
class Shown:
    """A decoded frame and the way in which it is shown. It makes pictures when they are asked for, because that takes
    longer than to decode it."""

    frame: VideoFrame
    pictures: Pictures

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return self.pictures.size(self.frame)

    def full(self) -> np.ndarray:
        return self.pictures.full(self.frame)

    def sketch(self, width: int, height: int) -> np.ndarray:
        """Return :meth:`Pictures.sketch`."""
        return self.pictures.sketch(self.frame, width, height)

    def part(self, part: Box, width: int, height: int) -> np.ndarray:
        """Return :meth:`Pictures.part`; ``part`` is in pixels of :attr:`size`."""
        return self.pictures.part(self.frame, part, width, height)

    def at_most(self, side: int) -> Shown:
        """Return the frame with a shorter side of at most ``side`` pixels."""
        scale = side / min(self.frame.width, self.frame.height)
        return self if scale >= 1 else replace(self, frame=self.pictures.smaller(self.frame, scale))


def _across(box: Box, by: Fraction | float) -> Box:
    return Box(x=box.x * by, y=box.y, width=box.width * by, height=box.height)


class _Cropper:
    """Cuts parts out of frames by ffmpeg's ``crop``, which copies nothing. Where colours are stored for two pixels at
    once, a part begins and ends with such a pair."""

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._made_for: tuple[object, ...] = ()

    def __call__(self, frame: VideoFrame, part: Box) -> VideoFrame:
        x, y = round(part.x), round(part.y)
        width = max(1, min(round(part.width), frame.width - x))
        height = max(1, min(round(part.height), frame.height - y))
        if (width, height) == (frame.width, frame.height):
            return frame
        now = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, x, y, width, height)
        if self._graph is None or self._made_for != now:
            self._graph, self._made_for = _graph(frame, "crop", f"{width}:{height}:{x}:{y}"), now
        self._graph.vpush(frame)
        return self._graph.vpull()


def _joined(planes: VideoFrame) -> np.ndarray:
    """Return the planes green, blue, red as ``[H, W, 3]``, in an eighth of the time of PyAV's ``to_ndarray``."""
    green, blue, red = (
        np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)[:, : plane.width]
        for plane in planes.planes
    )
    return cv2.merge([red, green, blue])


def progressive(found: Iterator[VideoFrame | Damage], time_base: Fraction) -> Iterator[VideoFrame | Damage]:
    """Make a picture of each field of the interlaced frames, by ffmpeg's bwdif. Other frames pass."""
    graph: av.filter.Graph | None = None
    shape: tuple[object, ...] = ()
    for frame in found:
        now = () if isinstance(frame, Damage) else (frame.width, frame.height, frame.format.name)
        if graph is not None and now != shape:
            graph.vpush(None)
            yield from _ready(graph)
            graph = None
        if isinstance(frame, Damage):
            yield frame
            continue
        if graph is None:
            graph, shape = _graph(frame, "bwdif", "mode=send_field:parity=auto:deint=interlaced", time_base), now
        graph.vpush(frame)
        yield from _ready(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _ready(graph)


def _graph(frame: VideoFrame, name: str, told: str, time_base: Fraction = Fraction(1, 1000)) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=time_base),
        graph.add(name, told),
        graph.add("buffersink"),
    ).configure()
    return graph


def _ready(graph: av.filter.Graph) -> Iterator[VideoFrame]:
    with suppress(av.error.BlockingIOError, av.error.EOFError):  # It wants the next picture, or has had the last.
        while True:
            yield graph.vpull()
