"""Pictures of 1080p footage a second and core: ours against ffmpeg's own decoding, scaling and encoding.

    python benchmarks/clips.py [--seconds 11] [--ffmpeg ffmpeg]

The footage is a demo video in 1080p at 30 fps. Each line is of CPU time on one thread. `ffmpeg` decodes, takes 16
pictures a second, scales them to 832 x 480 and encodes them by the same encoder and settings.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import av
import cv2

from ipa_core.clips.cut import CutClip, cut_video
from ipa_core.config import ClipsConfig
from ipa_core.video import encode_png, encode_video, frames

ROOT = Path(__file__).resolve().parent.parent
RATE = 30
CONFIG = ClipsConfig(sources=("unused",), crop="center")


def record(path: Path, count: int) -> None:
    """Write the demo's pictures, to and fro, in 1080p."""
    source = next((ROOT / "demo" / "videos").glob("*.mp4"))
    seen = [cv2.resize(one.picture, (1920, 1080), interpolation=cv2.INTER_CUBIC) for one in frames(source)]
    around = seen + seen[-2:0:-1]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(RATE))
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        coder = stream.codec_context
        coder.options = {"crf": "20"}
        coder.colorspace = coder.color_primaries = coder.color_trc = coder.color_range = 1
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(around[number % len(around)], format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=1)))
        container.mux(stream.encode())


def decode(path: Path) -> None:
    for _ in frames(path):
        pass


def cut(path: Path) -> list[CutClip]:
    return [part for part in cut_video(path, "ab" * 32, CONFIG, None) if isinstance(part, CutClip)]


def cut_and_encode(path: Path) -> None:
    for clip in cut(path):
        encode_video(clip.frames, CONFIG.fps)
        encode_png(clip.frames[clip.reference_index])


def by_ffmpeg(binary: str, path: Path, *output: str) -> None:
    one = ("-threads", "1", "-filter_threads", "1")
    subprocess.run([binary, "-v", "error", "-y", *one, "-i", str(path), *one, *output], check=True)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return CPU seconds of this process and of those it started."""
    before, children = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() - before + after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=11)
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"), help="the binary (default: the one on the path)")
    told = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path, count = Path(folder) / "hd.mp4", told.seconds * RATE
        record(path, count)
        scaled = ("-vf", f"fps={CONFIG.fps:g},scale={CONFIG.width}:{CONFIG.height}")
        coded = ("-c:v", "libx264", "-preset", "medium", "-crf", "12", "-f", "mp4", f"{folder}/out.mp4")
        works: dict[str, Callable[[], object]] = {
            "ours, decoding": lambda: decode(path),
            "ours, cutting": lambda: cut(path),
            "ours, cutting and encoding": lambda: cut_and_encode(path),
        }
        if told.ffmpeg:
            works["ffmpeg, decoding"] = lambda: by_ffmpeg(told.ffmpeg, path, "-f", "null", "-")
            works["ffmpeg, decoding and scaling"] = lambda: by_ffmpeg(told.ffmpeg, path, *scaled, "-f", "null", "-")
            works["ffmpeg, decoding, scaling and encoding"] = lambda: by_ffmpeg(told.ffmpeg, path, *scaled, *coded)
        for name, work in works.items():
            print(f"{name:40} {count / cpu_seconds(work):6.1f} pictures a second and core")


if __name__ == "__main__":
    main()
