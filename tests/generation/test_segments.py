"""Long driving videos: which frames make a segment, and what a segment is given of the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipa_core.config import CandidatesConfig, ModelConfig
from ipa_core.generation.candidates import animate
from ipa_core.generation.segments import animate_segments, segments
from ipa_core.models.animation import Driving
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.alignment.samples import make_pose
from tests.tiny_model import FRAMES, HEIGHT, WIDTH, write_tiny_pipeline

CONFIG = CandidatesConfig(
    model=ModelConfig(path="unused", dtype="float32"), steps=1, scheduler="euler", shift=5.0, guidance_scale=1.0
)


@pytest.mark.parametrize(
    ("frames", "starts"), [(9, [0]), (10, [0, 4]), (13, [0, 4]), (17, [0, 4, 8]), (20, [0, 4, 8, 12])]
)
def test_a_segment_shares_its_first_frames(frames: int, starts: list[int]) -> None:
    assert segments(frames, 9, 5) == [range(start, start + 9) for start in starts]


@pytest.mark.parametrize(("frames", "length", "overlap"), [(8, 9, 5), (20, 9, 9), (20, 9, 0)])
def test_what_holds_no_segment_is_refused(frames: int, length: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=f"hold no segment of {length} that shares {overlap}"):
        segments(frames, length, overlap)


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> WanVACEModel:
    folder = write_tiny_pipeline(tmp_path_factory.mktemp("wan"))
    return WanVACEModel.load(Path(folder), dtype="float32", device="cpu")


def driving(frames: int) -> Driving:
    pose = make_pose(0, HEIGHT, WIDTH)
    parts = {name: np.resize(getattr(pose, name), (frames, *getattr(pose, name).shape[1:])) for name in (
        "keypoints", "confidence")}  # fmt: skip
    long = type(pose)(parts["keypoints"], parts["confidence"], WIDTH, HEIGHT, "model", "test")
    return Driving(long, lambda: np.zeros((frames, HEIGHT, WIDTH, 3), np.uint8))


REFERENCE = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def made(model: WanVACEModel, frames: int, **others: Any) -> np.ndarray:
    return animate_segments(
        model, driving(frames), REFERENCE, "a dancer", CONFIG, length=FRAMES, overlap=5, seed=3, **others
    )


def test_one_segment_is_the_animated_clip(wan: WanVACEModel) -> None:
    control = wan.draw(driving(FRAMES), CONFIG.drawing)
    assert np.array_equal(made(wan, FRAMES), animate(wan, control, REFERENCE, "a dancer", CONFIG, seed=3))


def test_a_later_segment_adds_the_frames_that_it_does_not_share(wan: WanVACEModel) -> None:
    told: list[tuple[int, int]] = []

    def tell(number: int, count: int) -> Any:
        told.append((number, count))
        return lambda done, whole: None

    video = made(wan, FRAMES + 4, tell=tell)
    assert (video.shape, told) == ((FRAMES + 4, HEIGHT, WIDTH, 3), [(0, 2), (1, 2)])
    assert np.array_equal(video[:FRAMES], made(wan, FRAMES))


def test_the_last_frame_is_held_where_a_segment_reaches_beyond_it(wan: WanVACEModel) -> None:
    poses: list[np.ndarray] = []
    draw = wan.draw

    def drawn(piece: Driving, drawing: Any) -> Any:
        poses.append(piece.pose.keypoints)
        return draw(piece, drawing)

    whole = driving(FRAMES + 2)
    whole.pose.keypoints[-1] += 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wan, "draw", drawn)
        video = animate_segments(wan, whole, REFERENCE, "", CONFIG, length=FRAMES, overlap=5, seed=3)

    assert len(video) == FRAMES + 2
    assert np.array_equal(poses[1], whole.pose.keypoints[[4, 5, 6, 7, 8, 9, 10, 10, 10]])


def test_vace_is_given_the_last_frames_as_known_pictures(wan: WanVACEModel) -> None:
    control = wan.draw(driving(FRAMES), CONFIG.drawing)
    before = np.random.default_rng(2).integers(0, 256, (5, HEIGHT, WIDTH, 3), dtype=np.uint8)
    stream = wan.encode_conditioning(control, REFERENCE, "", None, before).streams()["control"]
    channels = wan.latent_shape(wan.encode_conditioning(control, REFERENCE, "", None))[0]
    known = np.concatenate([before, np.zeros_like(control[5:])])
    # Inactive is what stays: the given frames, black (0 of -1 to 1) where the rest is generated.
    alone = wan.encode_video(known)[0, :, 0]

    assert np.allclose(stream[0, :channels, 1], alone, atol=1e-4)
    mask = stream[0, 2 * channels :]
    assert (mask[:, 1].max(), mask[:, -1].min()) == (0, 1)
