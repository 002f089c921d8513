"""WanAnimateModel against the pipeline it takes apart; its LoRA in diffusers; its drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blake3 import blake3
from diffusers import FlowMatchEulerDiscreteScheduler, WanAnimatePipeline
from PIL import Image
from safetensors.torch import load

from ipa_core import keypoints as kp
from ipa_core.alignment.data import TrainingSample
from ipa_core.alignment.trainer import train
from ipa_core.config import AlignmentConfig, CandidatesConfig, ConfigError, DrawingConfig, ModelConfig
from ipa_core.generation.candidates import generate
from ipa_core.generation.sampler import sample
from ipa_core.models import LORA_FILE, UnknownModel, kind_of, resolve_model
from ipa_core.models.adapter import adapter_off
from ipa_core.models.animation import Driving
from ipa_core.models.conditioning import Conditioning
from ipa_core.models.latents import latents_to_bytes
from ipa_core.models.wan_animate import WAN_ANIMATE
from ipa_core.models.wan_animate.drawing import PALETTE, body_points, crop_faces, draw_body
from ipa_core.models.wan_animate.model import Control, WanAnimateModel
from ipa_core.models.wan_vace.lora import COMFYUI_FILE
from ipa_core.records import PoseSequence
from ipa_core.video import encode_video
from tests.alignment.samples import Samples, make_pose
from tests.alignment.test_training import Slot
from tests.models.test_kinds import with_index
from tests.tiny_model import FRAMES, HEIGHT, WIDTH, write_tiny_animate, write_tiny_pipeline

FACE = 16
PROMPT, NEGATIVE = "a dancer", "blurred hands"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_animate(tmp_path_factory.mktemp("animate"))


def loaded(folder: Path, lora: Path | bytes | None = None, **changes: Any) -> WanAnimateModel:
    return WanAnimateModel.load(folder, dtype="float32", device="cpu", lora=lora, **changes)


@pytest.fixture(scope="module")
def model(folder: Path) -> WanAnimateModel:
    """Shared; a test that puts an adapter on it takes it off."""
    return loaded(folder)


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


REFERENCE = pictures(90, 40, seed=1)
CONTROL = Control(pictures(FRAMES, HEIGHT, WIDTH), pictures(FRAMES, FACE, FACE, seed=2))


def config(guidance: float = 1.0) -> CandidatesConfig:
    return CandidatesConfig(
        model=ModelConfig(path="unused", dtype="float32"),
        steps=3,
        scheduler="euler",
        shift=5.0,
        guidance_scale=guidance,
        negative_prompt=NEGATIVE,
    )


def conditioning(model: WanAnimateModel, guidance: float = 1.0, before: np.ndarray | None = None) -> Conditioning:
    return model.encode_conditioning(CONTROL, REFERENCE, PROMPT, NEGATIVE if guidance > 1 else None, before)


def from_pipeline(
    folder: Path, guidance: float, output: str, control: Control = CONTROL, frames: int = FRAMES, carried: int = 1
) -> Any:
    pipeline = WanAnimatePipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    pose, face = ([Image.fromarray(picture) for picture in video] for video in (control.pose, control.face))
    return pipeline(
        image=Image.fromarray(REFERENCE),
        pose_video=pose,
        face_video=face,
        prompt=PROMPT,
        negative_prompt=NEGATIVE if guidance > 1 else None,
        height=HEIGHT,
        width=WIDTH,
        segment_frame_length=frames,
        prev_segment_conditioning_frames=carried,
        num_inference_steps=3,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(7),
        output_type=output,
    ).frames[0]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_sample_is_the_pipelines(folder: Path, model: WanAnimateModel, guidance: float) -> None:
    (latents,) = sample(model, conditioning(model, guidance), [7], config(guidance))

    expected = (from_pipeline(folder, guidance, "latent") - model._mean[0]) * model._inverse_std[0]
    assert (latents - expected).abs().max() < 1e-5


def test_a_video_is_the_pipelines(folder: Path, model: WanAnimateModel) -> None:
    video = generate(model, conditioning(model), [7], config()).videos[0]

    expected = np.stack([np.asarray(picture) for picture in from_pipeline(folder, 1.0, "pil")])
    assert np.abs(video.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("frames", "carried"), [(FRAMES, 1), (17, 5)])
def test_the_second_segment_goes_on_as_the_pipelines(
    folder: Path, model: WanAnimateModel, frames: int, carried: int
) -> None:
    """The pipeline carries the decoder's own numbers over, we the pictures made of them: a rounding apart."""
    both = 2 * frames - carried
    long = Control(pictures(both, HEIGHT, WIDTH, seed=3), pictures(both, FACE, FACE, seed=4))
    theirs = from_pipeline(folder, 1.0, "latent", long, frames, carried)
    shown = from_pipeline(folder, 1.0, "pil", long, frames, carried)
    first = np.stack([np.asarray(picture) for picture in shown])[:frames]
    second = Control(long.pose[-frames:], long.face[-frames:])
    encoded = model.encode_conditioning(second, REFERENCE, PROMPT, None, first[-carried:])

    noise = torch.Generator().manual_seed(7)
    shape = model.latent_shape(encoded)
    latents = [torch.randn(1, *shape, generator=noise) for _ in range(2)][1]
    scheduler = model.scheduler(config())
    scheduler.set_timesteps(3, device=model.device)
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            velocity = model.velocity(latents, (timestep.double() / 1000).expand(1), encoded.streams())
            latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    expected = (theirs - model._mean[0]) * model._inverse_std[0]
    assert (latents[0] - expected).abs().max() < 2e-2
    without = sample(model, model.encode_conditioning(second, REFERENCE, PROMPT, None), [7], config())
    assert (without[0] - expected).abs().max() > 0.1


def test_three_frames_to_go_on_from_are_refused(model: WanAnimateModel) -> None:
    with pytest.raises(ValueError, match="goes on from 1 or 5 frames, got 3"):
        conditioning(model, before=pictures(3, HEIGHT, WIDTH))


def test_the_store_keeps_the_conditioning_whole(model: WanAnimateModel) -> None:
    given = conditioning(model, 2.0)
    again = Conditioning.from_bytes(given.to_bytes())

    assert again.streams()["face"].dtype == torch.uint8
    assert torch.equal(sample(model, again, [7], config(2.0)), sample(model, given, [7], config(2.0)))


def training_sample(model: WanAnimateModel) -> TrainingSample:
    encoded = conditioning(model)
    generated = generate(model, encoded, [1], config())
    return TrainingSample(
        key="one",
        digest=blake3(latents_to_bytes(generated.latents[0])).hexdigest(),
        latents=generated.latents[0],
        conditioning=Conditioning.from_bytes(encoded.to_bytes()),
        pose=make_pose(0, HEIGHT, WIDTH),
        video=encode_video(generated.videos[0], fps=8),
    )


@pytest.fixture(scope="module")
def trained(model: WanAnimateModel, folder: Path) -> Any:
    alignment = AlignmentConfig(
        rank=2, alpha=4, beta=100, dtype="float32", steps=3, batch_size=1, warmup_steps=0, learning_rate=1e-2
    )
    samples = Samples([training_sample(model)])
    light = loaded(folder, text_encoder=False)
    assert light.pipeline.text_encoder is None and light.pipeline.image_encoder is None
    return train(light, samples, alignment, checkpoints=Slot(), on_step=lambda log: None)


def test_it_trains(trained: Any) -> None:
    assert trained.history[0].loss == pytest.approx(np.log(2))
    assert trained.history[-1].loss < trained.history[0].loss
    assert len(load(trained.files[LORA_FILE])) == 2 * 2 * 6


def velocity(model: WanAnimateModel, encoded: Conditioning) -> torch.Tensor:
    latents = torch.randn(1, *model.latent_shape(encoded), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return model.velocity(latents, torch.tensor([0.4]), encoded.streams())


@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters:RuntimeWarning")  # diffusers adds zeros.
@pytest.mark.parametrize("name", [LORA_FILE, COMFYUI_FILE])
def test_diffusers_loads_both_files_as_we_do(
    folder: Path, model: WanAnimateModel, trained: Any, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(trained.files[name])
    pipeline = WanAnimatePipeline.from_pretrained(folder, local_files_only=True)
    pipeline.load_lora_weights(tmp_path, weight_name=name)
    encoded = conditioning(model)
    base, theirs = velocity(model, encoded), velocity(WanAnimateModel(pipeline), encoded)

    ours = loaded(folder, trained.files[name])
    torch.testing.assert_close(velocity(ours, encoded), theirs)
    assert not torch.allclose(theirs, base)
    with adapter_off(ours.transformer):
        assert torch.equal(velocity(ours, encoded), base)


def test_a_lora_of_another_model_is_refused(folder: Path, tmp_path: Path, trained: Any) -> None:
    from ipa_core.models.wan_vace.model import WanVACEModel

    vace = write_tiny_pipeline(tmp_path / "vace")
    with pytest.raises(ConfigError, match="it is of a model of another size"):
        WanVACEModel.load(vace, dtype="float32", device="cpu", lora=trained.weights)


def test_the_folder_is_known_by_its_class(folder: Path) -> None:
    assert kind_of(folder) is WAN_ANIMATE
    assert resolve_model(ModelConfig(path=str(folder))) == folder


def test_a_folder_without_image_encoder_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="names no image_encoder, which Wan-Animate needs"):
        kind_of(with_index(folder, tmp_path / "model", image_encoder=[None, None]))


def a_pose(side: int = 600) -> PoseSequence:
    """One frame: every point at its own place on a grid, all sure."""
    points = np.stack([20 + np.arange(133) % 12 * 50, 20 + np.arange(133) // 12 * 50], axis=1).astype(np.float32)
    return PoseSequence(points[None], np.ones((1, 133), np.float32), side, side, "model", "test")


def test_the_body_has_twenty_points_in_their_colours() -> None:
    pose = a_pose()
    points, seen = body_points(pose.keypoints[0], pose.confidence[0] > 0)
    assert len(points) == len(PALETTE) == 20 and seen.all()
    assert np.allclose(points[18], pose.keypoints[0, [kp.LEFT_BIG_TOE, kp.LEFT_SMALL_TOE]].mean(0))

    picture = draw_body(pose, DrawingConfig(hand_detail="none"))[0]
    # The points that no other point hides.
    alone = [number for number in range(20) if np.sort(np.abs(points - points[number]).sum(1))[1] > 10]
    assert [tuple(picture[int(points[n, 1]), int(points[n, 0])]) for n in alone] == [PALETTE[n] for n in alone]


def test_hands_are_drawn_only_where_they_are_sure() -> None:
    pose = a_pose()
    unsure = pose.confidence.copy()
    unsure[:, kp.LEFT_HAND] = 0.4
    drawn, without, none = (
        draw_body(PoseSequence(pose.keypoints, sure, 600, 600, "model", "test"), DrawingConfig(hand_detail=detail))
        for sure, detail in ((pose.confidence, "full"), (unsure, "full"), (unsure, "none"))
    )
    x, y = pose.keypoints[0, kp.LEFT_HAND.start + 4].astype(int)
    assert tuple(drawn[0, y, x]) == (0, 0, 255)
    assert without.any() and (without != none).any() and (drawn != without).any()


def test_a_face_crop_is_the_grown_box_of_its_points() -> None:
    pose = a_pose(100)
    pose.keypoints[0, kp.FACE] = np.random.default_rng(0).uniform((40, 40), (60, 60), (68, 2))
    pose.keypoints[0, kp.FACE.start] = 40, 40
    pose.keypoints[0, kp.FACE.start + 1] = 60, 60
    frames = np.zeros((1, 100, 100, 3), np.uint8)
    frames[:, :, :, 0] = np.arange(100)
    frames[:, :, :, 1] = np.arange(100)[:, None]
    [face] = crop_faces(frames, pose, 64)

    # The area grows by 1.3: 1.4 pixels aside, 2.1 above, .7 below.
    assert (face[0, 0, 0], face[0, -1, 0], face[0, 0, 1], face[-1, 0, 1]) == (38, 60, 37, 59)


def test_a_frame_without_a_face_has_the_nearest_ones_box() -> None:
    pose = a_pose(700)
    points = np.repeat(pose.keypoints, 3, axis=0)
    sure = np.repeat(pose.confidence, 3, axis=0)
    sure[1:, kp.FACE] = sure[1:, kp.LEFT_EYE, None] = 0
    frames = pictures(3, 700, 700)
    faces = crop_faces(frames, PoseSequence(points, sure, 700, 700, "model", "test"), FACE)
    alone = crop_faces(frames[2:], PoseSequence(points[:1], sure[:1], 700, 700, "model", "test"), FACE)
    assert np.array_equal(faces[2], alone[0])


def test_without_face_points_eyes_and_ears_tell_the_box() -> None:
    pose = a_pose(200)
    pose.confidence[:, kp.FACE] = 0
    pose.keypoints[0, [kp.LEFT_EYE, kp.RIGHT_EYE]] = (110, 100), (90, 100)
    pose.keypoints[0, [kp.LEFT_EAR, kp.RIGHT_EAR]] = (125, 102), (75, 102)
    frames = np.zeros((1, 200, 200, 3), np.uint8)
    frames[:, :, :, 0] = np.arange(200)
    frames[:, :, :, 1] = np.arange(200)[:, None]
    [face] = crop_faces(frames, pose, 64)

    # 50 pixels from ear to ear: from 82.5 to 140 down, grown by 3.5 aside, 6 above and 2 below.
    assert (face[0, 0, 0], face[0, -1, 0], face[0, 0, 1], face[-1, 0, 1]) == (71, 127, 76, 141)


def test_without_any_face_all_is_black() -> None:
    pose = a_pose(700)
    pose.confidence[:, kp.FACE] = 0
    pose.confidence[:, kp.LEFT_EYE] = 0
    assert not crop_faces(pictures(1, 700, 700), pose, FACE).any()


def test_it_draws_pose_and_face_of_a_driving_clip(model: WanAnimateModel) -> None:
    pose, frames = a_pose(700), pictures(1, 700, 700)
    control = model.draw(Driving(pose, lambda: frames), DrawingConfig())
    assert np.array_equal(control.pose, draw_body(pose, DrawingConfig()))
    assert np.array_equal(control.face, crop_faces(frames, pose, FACE))


def test_a_changed_pose_does_not_move_the_face_crop(model: WanAnimateModel) -> None:
    found, frames = a_pose(700), pictures(1, 700, 700)
    changed = PoseSequence(found.keypoints / 2, found.confidence, 700, 700, "model", "test")
    control = model.draw(Driving(changed, lambda: frames, found), DrawingConfig())
    assert np.array_equal(control.face, crop_faces(frames, found, FACE))
    assert np.array_equal(control.pose, draw_body(changed, DrawingConfig()))
