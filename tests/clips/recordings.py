"""Small videos that tests record for themselves: pictures whose number can be read back, scenes, sounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from ipa_core.reading import Pictures, Reading, Shown

_BITS = 8
_TICKS = 90_000
"""Of a second, in which times are given to the recorder."""


def scene(seed: int, width: int = 160, height: int = 120) -> np.ndarray:
    """A smooth random texture over one ground colour, ``[height, width, 3]``; another seed is another scene."""
    random = np.random.default_rng(seed)
    ground = random.integers(40, 216, 3)
    texture = cv2.GaussianBlur(random.normal(0, 200, (height, width, 3)), (0, 0), 5)
    return (ground + texture).clip(0, 255).astype(np.uint8)


def numbered(count: int, seed: int = 0, width: int = 160, height: int = 120, first: int = 0) -> list[np.ndarray]:
    """``count`` pictures of one scene, each with its number painted on it; see :func:`number_of`."""
    pictures = []
    ground = scene(seed, width, height)
    for number in range(first, first + count):
        picture = ground.copy()
        for bit, square in enumerate(_squares(picture)):
            square[:] = 170 if number >> bit & 1 else 90
        pictures.append(picture)
    return pictures


def number_of(picture: np.ndarray) -> int:
    """The number that :func:`numbered` painted, of a picture in any size."""
    return sum(1 << bit for bit, square in enumerate(_squares(picture)) if square.mean() > 130)


def _squares(picture: np.ndarray) -> list[np.ndarray]:
    """A row of squares in the middle of the picture, one per bit."""
    height, width = picture.shape[:2]
    side = width // (2 * _BITS)
    top, left = (height - side) // 2, width // 4
    return [picture[top : top + side, left + bit * side : left + (bit + 1) * side] for bit in range(_BITS)]


def shown(picture: np.ndarray) -> Shown:
    """A picture as if it came from a video without compression."""
    return Shown(av.VideoFrame.from_ndarray(picture, format="rgb24"), Pictures(Reading()))


def record(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    fps: float = 30,
    times: Sequence[float] | None = None,
    rotation: int = 0,
    tags: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write ``pictures`` at ``fps``, or at ``times`` in seconds. ``rotation`` goes into the header only: degrees
    counter-clockwise by which a player has to turn the pictures."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = None
        for index, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = Fraction(1, _TICKS)
                stream.codec_context.thread_count = 1
                stream.codec_context.options = {"preset": "ultrafast", "crf": "18", "g": "12"}
                stream.metadata.update(tags or {})
                if rotation:
                    stream.set_display_rotation(rotation)
                if pixel_aspect:
                    stream.codec_context.sample_aspect_ratio = pixel_aspect
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base = Fraction(1, _TICKS)
            frame.pts = round((times[index] if times else index / fps) * _TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def record_sound(path: Path, seconds: float = 1.0, cover: bool = False) -> Path:
    """A tone without pictures; with ``cover`` a still picture lies beside it, as in music files."""
    rate, samples = 48_000, 1024
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=rate, layout="mono")
        still = None
        if cover:
            still = container.add_stream("mjpeg", rate=1, width=64, height=64, pix_fmt="yuvj420p")
            still.disposition = av.stream.Disposition.attached_pic
        for start in range(0, int(seconds * rate), samples):
            wave = np.sin(np.arange(start, start + samples) * (2 * np.pi * 440 / rate)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
        if still is not None:
            container.mux(still.encode(av.VideoFrame.from_ndarray(scene(0, 64, 64), format="rgb24")))
            container.mux(still.encode())
    return path
