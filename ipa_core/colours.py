"""Brings colours of HDR and of BT.2020 to BT.709, the colours of all clips. Values of R'G'B' are in [0, 1]."""

from __future__ import annotations

from fractions import Fraction
from typing import Final, Literal

import av.filter
import cv2
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from ipa_core.scratch import scratch_folder

Transfer = Literal["pq", "hlg", "sdr"]
_EXACT: Final = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Without these two flags, colours come back about 1.4 levels too dark."""
CONVERSION: Final = Interpolation.BILINEAR | _EXACT
AREA: Final = Interpolation.AREA | _EXACT
ENLARGING: Final = Interpolation.BICUBIC | _EXACT

_WHITE: Final = 203.0
"""cd/m2 of white paper in HDR (ITU-R BT.2408). It becomes the white of SDR."""
_PEAK: Final = 1000.0 / _WHITE
"""The brightest light of HLG, and of most PQ, in whites."""
_SCREEN: Final = 2.4
"""Exponent of an SDR screen (ITU-R BT.1886)."""
_KNEE: Final = 0.8
"""Light up to this share of white stays as it is; faces and hands are darker. Highlights share the rest."""
_TO_BT709: Final = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)
"""Linear BT.2020 -> linear BT.709 (ITU-R BT.2087)."""
_BT2020_LUMA: Final = np.array([0.2627, 0.6780, 0.0593])
_DEEP: Final = "gbrp16le"
_GRID: Final = 65
"""Points per side of the table of colours."""


def to_bt709(colours: np.ndarray, transfer: Transfer) -> np.ndarray:
    """Convert R'G'B' of BT.2020 ``[..., 3]`` with the given transfer function to R'G'B' of BT.709.

    HDR's highlights are drawn together as by ffmpeg's ``tonemap=mobius:param=0.8:peak=4.926:desat=0``.
    """
    light = _light(np.asarray(colours, np.float64), transfer) @ _TO_BT709.T
    if transfer != "sdr":
        light = _without_highlights(light)
    return light.clip(0, 1) ** (1 / _SCREEN)


def _light(colours: np.ndarray, transfer: Transfer) -> np.ndarray:
    """Return linear light in whites."""
    if transfer == "sdr":
        return colours**_SCREEN
    if transfer == "pq":  # SMPTE ST 2084
        root = colours ** (1 / 78.84375)
        return (
            10_000 / _WHITE * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        )
    # ITU-R BT.2100: the scene's light, then what a screen of 1000 cd/m2 makes of it.
    scene = np.where(colours <= 0.5, colours**2 / 3, (np.exp((colours - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    return _PEAK * (scene @ _BT2020_LUMA)[..., None] ** 0.2 * scene


def _without_highlights(light: np.ndarray) -> np.ndarray:
    """Draw light above the knee together, so that the peak becomes white. The three colours shrink alike."""
    brightest = light.max(axis=-1, keepdims=True)
    a = -(_KNEE**2) * (_PEAK - 1) / (_KNEE**2 - 2 * _KNEE + _PEAK)
    b = (_KNEE**2 - 2 * _KNEE * _PEAK + _PEAK) / (_PEAK - 1)
    drawn = (b * b + 2 * b * _KNEE + _KNEE**2) / (b - a) * (brightest + a) / (brightest + b)
    return light * np.where(brightest > _KNEE, drawn / np.maximum(brightest, 1e-6), 1)


class ToBT709:
    """Converts pictures from BT.2020 to ``rgb24`` of BT.709, by ffmpeg's ``lut3d`` and a table of :func:`to_bt709`."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._graph: av.filter.Graph | None = None
        self._size: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame, width: int, height: int, how: Interpolation = CONVERSION) -> np.ndarray:
        """Return uint8 RGB ``[height, width, 3]``."""
        deep = self._reformatter.reformat(frame, width, height, _DEEP, Colorspace.BT2020, interpolation=how, threads=1)
        if self._graph is None or self._size != (width, height):
            self._graph, self._size = _graph(width, height, self._transfer), (width, height)
        self._graph.vpush(deep)
        return cv2.convertScaleAbs(self._graph.vpull().to_ndarray(), alpha=255 / 65535)


def _graph(width: int, height: int, transfer: Transfer) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    with scratch_folder() as folder:  # ffmpeg reads the table when the graph is made.
        table = folder / "table.cube"
        grid = np.linspace(0, 1, _GRID)
        blue, green, red = np.meshgrid(grid, grid, grid, indexing="ij")  # Red changes fastest.
        colours = to_bt709(np.stack([red, green, blue], axis=-1).reshape(-1, 3), transfer)
        table.write_text(f"LUT_3D_SIZE {_GRID}\n" + "%.5f %.5f %.5f\n" * len(colours) % tuple(colours.ravel().tolist()))
        graph.link_nodes(
            graph.add_buffer(width=width, height=height, format=VideoFormat(_DEEP), time_base=Fraction(1, 1000)),
            graph.add("lut3d", file=str(table), interp="tetrahedral"),
            graph.add("buffersink"),
        ).configure()
    return graph
