"""What `ipa animate` says about its files."""

import os
from pathlib import Path

import numpy as np
import pytest

from flows.cli.animate import Request, _driving, _picture, _used
from flows.engine.progress import Progress
from ipa_core.clips.cut import CutClip
from ipa_core.config import ConfigError
from ipa_core.records import Box
from tests.fakes import FAKES
from tests.flows.test_keys import run_config


@pytest.mark.parametrize("kind", [b"heic", b"avif"])
def test_a_phones_picture_that_is_not_read(kind: bytes, tmp_path: Path) -> None:
    (tmp_path / "me.pic").write_bytes(b"\0\0\0\x18ftyp" + kind + bytes(100))
    with pytest.raises(ConfigError, match=r"me.pic is HEIC or AVIF, which is not read; save it as PNG or JPEG$"):
        _picture(tmp_path / "me.pic")


def test_a_pipe_is_no_driving_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(ConfigError, match=r"a.mp4 is no regular file; name a video"):
        asked = Request(tmp_path / "me.png", tmp_path / "a.mp4", tmp_path / "out.mp4")
        _driving(run_config(tmp_path), asked, FAKES, np.zeros((8, 8, 3), np.uint8), Progress())


@pytest.mark.parametrize(
    ("duration", "rest"), [(None, ""), (2.4, ""), (3.0, "; its other 1.00 s are not used (--whole takes them)")]
)
def test_the_part_of_the_driving_video_that_is_used(duration: float | None, rest: str, tmp_path: Path) -> None:
    clip = CutClip(0, 0.5, np.zeros((16, 8, 8, 3), np.uint8), Box(x=0, y=0, width=8, height=8), 0)
    config = run_config(tmp_path, clips={"frames": 17, "fps": 8.5})
    assert _used(config, clip, duration) == f"the pose comes from 17 pictures, 0.50 s to 2.50 s of the video{rest}"
