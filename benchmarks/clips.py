"""Pictures of 1080p footage a second and core: ours, before and now, against ffmpeg's own decoding and scaling.

    python benchmarks/clips.py [--seconds 11] [--ffmpeg ffmpeg]

The footage is a demo video in 1080p at 30 fps. Each line is of CPU time on one thread. `ffmpeg` decodes, takes 16
pictures a second, scales them to 832 x 480 and encodes them by the same encoder. `before` is how stores of generation 1
cut: pictures are converted in full and scaled twice. The last lines tell the time of each step.
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
from itertools import islice
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import av
import cv2
import numpy as np

from ipa_core.clips.crop import crop_around
from ipa_core.clips.cut import CutClip, cut_video
from ipa_core.clips.kept import Scaled, Stored
from ipa_core.clips.shots import colour_histograms
from ipa_core.config import ClipsConfig
from ipa_core.video import LARGE, encode_png, encode_video, frames

ROOT = Path(__file__).resolve().parent.parent
RATE = 30
STEPPED = 45
"""Pictures on which the steps are timed one by one."""
PRESETS = "medium", "superfast"
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


def cut(path: Path, traits: tuple[str, ...]) -> list[CutClip]:
    return [part for part in cut_video(path, "ab" * 32, CONFIG, None, traits) if isinstance(part, CutClip)]


def cut_and_encode(path: Path, traits: tuple[str, ...]) -> None:
    preset = PRESETS[LARGE in traits]
    for clip in cut(path, traits):
        encode_video(clip.frames, CONFIG.fps, preset=preset)
        encode_png(clip.frames[clip.reference_index])


def steps(path: Path, seconds: int) -> dict[str, tuple[float, float]]:
    """Return CPU seconds of each step, as earlier versions made it and now."""
    seen = list(islice(frames(path), STEPPED))
    taken = seen[: round(STEPPED * CONFIG.fps / RATE)]
    crop = crop_around(None, *seen[0].shown.size, CONFIG.width / CONFIG.height, CONFIG.crop_margin)
    size = CONFIG.width, CONFIG.height
    pictures = np.stack([Stored.of(frame, CONFIG).cut(crop, *size) for frame in taken])
    sketch = cpu_seconds(lambda: [colour_histograms(frame.shown.sketch(264, 144)) for frame in seen])
    convert = cpu_seconds(lambda: [frame.picture for frame in taken])
    twice = cpu_seconds(lambda: [Scaled(frame, CONFIG).cut(crop, *size) for frame in taken])
    once = cpu_seconds(lambda: [Stored.of(frame, CONFIG).cut(crop, *size) for frame in taken])
    encode = [cpu_seconds(lambda: encode_video(pictures, CONFIG.fps, preset=preset)) for preset in PRESETS]  # noqa: B023
    decode = cpu_seconds(lambda: [None for _ in frames(path)]) * STEPPED / (seconds * RATE)
    return {
        "decoding": (decode, decode),
        "finding shots": (sketch, sketch),
        "scaling, with colours": (convert + twice, once),
        "encoding": (encode[0], encode[1]),
    }


def by_ffmpeg(binary: str, path: Path, *output: str) -> None:
    one = ("-threads", "1", "-filter_threads", "1")
    subprocess.run([binary, "-v", "error", "-y", *one, "-i", str(path), *one, *output], check=True)


def psnr(ours: list[CutClip], others: list[CutClip]) -> float:
    pairs = zip(ours, others, strict=True)
    return float(np.mean([cv2.PSNR(one.frames.ravel(), other.frames.ravel()) for one, other in pairs]))


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
        coded = ("-c:v", "libx264", "-crf", "12", "-f", "mp4", f"{folder}/out.mp4")
        works: dict[str, Callable[[], object]] = {
            "before, cutting": lambda: cut(path, ()),
            "now, cutting": lambda: cut(path, (LARGE,)),
            "before, cutting and encoding": lambda: cut_and_encode(path, ()),
            "now, cutting and encoding": lambda: cut_and_encode(path, (LARGE,)),
        }
        if told.ffmpeg:
            works["ffmpeg, decoding"] = lambda: by_ffmpeg(told.ffmpeg, path, "-f", "null", "-")
            works["ffmpeg, decoding and scaling"] = lambda: by_ffmpeg(told.ffmpeg, path, *scaled, "-f", "null", "-")
            for preset in PRESETS:
                works[f"ffmpeg, the same and encoding ({preset})"] = lambda preset=preset: by_ffmpeg(
                    told.ffmpeg, path, *scaled, *coded, "-preset", preset
                )
        for name, work in works.items():
            print(f"{name:40} {count / cpu_seconds(work):6.1f} pictures a second and core", flush=True)
        print(f"PSNR of now against before: {psnr(cut(path, (LARGE,)), cut(path, ())):.1f} dB")
        print("milliseconds a picture of the source, before and now:")
        for name, (before, now) in steps(path, told.seconds).items():
            print(f"  {name:38} {1e3 * before / STEPPED:6.1f} {1e3 * now / STEPPED:6.1f}")


if __name__ == "__main__":
    main()
