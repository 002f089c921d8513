"""Footage of each kind, written on the spot, with the pictures that are right for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation

from tests.clips.recordings import scene

FLAGS = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


Make = Callable[[Path], tuple[Path, Sequence[np.ndarray]]]


@dataclass(frozen=True)
class Kind:
    """A kind of footage. ``write`` writes it into a folder and returns the file and the right pictures."""

    name: str
    against: str
    write: Make
    least: float
    """PSNR in dB that our pictures must reach; infinite: they must be equal."""


def psnr(ours: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    """Return the PSNR in dB over all pictures; infinite if they are equal."""
    error = np.mean([np.square(one.astype(float) - other) for one, other in zip(ours, right, strict=True)])
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def moving(count: int = 6, width: int = 256, height: int = 144) -> list[np.ndarray]:
    """Pictures of a texture that moves to the right by 4 pixels a picture."""
    return _rolled(scene(3, width, height), count)


def _rolled(ground: np.ndarray, count: int) -> list[np.ndarray]:
    return [np.roll(ground, 4 * step, axis=1) for step in range(count)]


def write(
    path: Path,
    frames: Sequence[av.VideoFrame],
    *,
    rate: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    display: tuple[float, bool, bool] | None = None,
) -> Path:
    """Encode frames as they are. ``display``: degrees counter-clockwise, then flips, that go into the header."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
        coder = stream.codec_context
        coder.thread_count = 1
        coder.options = {"preset": "ultrafast", "crf": "1"} | (options or {})
        for name, value in (tags or {}).items():
            setattr(coder, name, value)
        if display:
            stream.set_display_rotation(display[0], hflip=display[1], vflip=display[2])
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def yuv(picture: np.ndarray, matrix: Colorspace = Colorspace.ITU709) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=matrix, interpolation=FLAGS)


def filtered(path: Path, name: str, told: str = "", *, rgb: bool = False) -> list[np.ndarray]:
    """Return a video's pictures after a filter of ffmpeg, as uint8 RGB. ``rgb``: it filters them as RGB."""
    graph = av.filter.Graph()
    pictures = []

    def pull() -> None:
        with suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                pictures.append(_rgb(graph.vpull()).to_ndarray())

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        kind = av.VideoFormat("rgb24") if rgb else stream.format
        start = graph.add_buffer(width=stream.width, height=stream.height, format=kind, time_base=stream.time_base)
        graph.link_nodes(start, graph.add(name, told), graph.add("buffersink")).configure()
        for frame in container.decode(stream):
            graph.vpush(_rgb(frame) if rgb else frame)
            pull()
        graph.vpush(None)
        pull()
    return pictures


def _rgb(frame: av.VideoFrame) -> av.VideoFrame:
    return frame.reformat(format="rgb24", interpolation=FLAGS)


TAGS709 = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}


def _mirrored(degrees: float, hflip: bool, vflip: bool, *told: str) -> Make:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        frames = [yuv(picture) for picture in moving()]
        path = write(folder / "mirrored.mp4", frames, tags=TAGS709, display=(degrees, hflip, vflip))
        return path, filtered(path, *told, rgb=True)

    return make


def hdr_signal(picture: np.ndarray, transfer: str) -> np.ndarray:
    """Return R'G'B' of BT.2020 in [0, 1], of an SDR picture whose white has the 203 cd/m2 of ITU-R BT.2408."""
    light = (picture / 255.0) ** 2.4 @ _BT2020.T * 203
    if transfer == "pq":  # SMPTE ST 2084
        power = (light / 10_000).clip(0) ** (2610 / 16384)
        return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    if transfer == "hlg":  # ITU-R BT.2100, screen of 1000 cd/m2
        shown = light / 1000
        luma = (shown @ [0.2627, 0.6780, 0.0593])[..., None].clip(1e-9)
        scene_light = shown * luma ** (1 / 1.2 - 1)
        high = 0.17883277 * np.log((12 * scene_light - 0.28466892).clip(1e-9)) + 0.55991073
        return np.where(scene_light <= 1 / 12, np.sqrt(3 * scene_light.clip(0)), high)
    return (light / 203).clip(0) ** (1 / 2.4)


def _wide(transfer: str, trc: int) -> Make:
    def make(folder: Path) -> tuple[Path, list[np.ndarray]]:
        pictures = moving(3)
        frames = []
        for picture in pictures:
            deep = np.round(hdr_signal(picture, transfer) * 65535).clip(0, 65535).astype(np.uint16)
            frame = av.VideoFrame.from_ndarray(deep, format="rgb48le")
            frames.append(frame.reformat(format="yuv420p10le", dst_colorspace=Colorspace.BT2020, interpolation=FLAGS))
        tags = {"colorspace": 9, "color_primaries": 9, "color_trc": trc, "color_range": 1}
        return write(folder / f"{transfer}.mp4", frames, tags=tags), pictures

    return make


def interlaced(folder: Path) -> tuple[Path, list[np.ndarray]]:
    """Write 50 fields a second, lower field first, and return the pictures of which the fields are."""
    squares = np.random.default_rng(0).integers(60, 200, (9, 16, 1), np.uint8)
    pictures = _rolled(np.kron(squares, np.ones((16, 16, 3), np.uint8)), 20)
    whole = [yuv(picture).to_ndarray() for picture in pictures]
    height, width = pictures[0].shape[:2]
    frames = []
    for first, second in zip(whole[::2], whole[1::2], strict=True):
        woven = second.copy()
        woven[1:height:2] = first[1:height:2]
        # Two rows of chroma lie in one row of the array.
        woven[height:].reshape(-1, width // 2)[1::2] = first[height:].reshape(-1, width // 2)[1::2]
        frames.append(av.VideoFrame.from_ndarray(woven, format="yuv420p"))
    options = {"flags": "+ildct+ilme"}
    return write(folder / "interlaced.mp4", frames, options=options, tags=TAGS709), pictures


def _bwdif(folder: Path) -> tuple[Path, list[np.ndarray]]:
    path, _ = interlaced(folder)
    return path, filtered(path, "bwdif", "mode=send_field:deint=interlaced")


def _untagged(folder: Path) -> tuple[Path, list[np.ndarray]]:
    frames = [yuv(picture) for picture in moving(2, 1280, 720)]
    return write(folder / "untagged.mp4", frames), filtered(write(folder / "tagged.mp4", frames, tags=TAGS709), "null")


KINDS = (
    Kind("hflip", "autorotate (hflip)", _mirrored(0, True, False, "hflip"), np.inf),
    Kind("vflip", "autorotate (vflip)", _mirrored(0, False, True, "vflip"), np.inf),
    Kind("transpose", "autorotate (transpose)", _mirrored(270, True, False, "transpose", "cclock_flip"), np.inf),
    Kind("antitranspose", "autorotate (transpose)", _mirrored(90, True, False, "transpose", "clock_flip"), np.inf),
    Kind("HDR10 (PQ)", "the SDR picture that it shows", _wide("pq", 16), 42),
    Kind("HLG", "the SDR picture that it shows", _wide("hlg", 18), 42),
    Kind("SDR in BT.2020", "the picture in BT.709", _wide("sdr", 1), 42),
    Kind("50i", "bwdif=send_field", _bwdif, np.inf),
    Kind("50i", "the 50p of which it was made", interlaced, 30),
    Kind("720p without a tag", "the same with the tag BT.709", _untagged, np.inf),
)
