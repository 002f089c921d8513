"""A clip by two processes: the result of one up to rounding, and no process that stays behind.

The processes meet over gloo on the CPU. No GPU was there to run it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.engine.components import animation_model, model_folder
from flows.engine.walk import Scope
from ipa_core.config import Execution, ModelConfig
from ipa_core.models.animation import AnimationModel
from ipa_core.models.latents import latents_from_bytes
from storage import ActionResult, Store
from tests.fakes import FAKES, fake_config, write_videos
from tests.flows.conftest import run_fake
from tests.tiny_model import write_tiny_pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TWO = Execution(device="cpu", gpus=2, gpus_per_clip=2)


def together(folder: Path) -> AnimationModel:
    return animation_model(ModelConfig(path=str(folder), dtype="float32"), TWO, None, True)


def latents(store: Store, result: ActionResult) -> torch.Tensor:
    named = [blob for name, blob in sorted(result.outputs.items()) if name.endswith(".latents")]
    return torch.stack([latents_from_bytes(store.objects.get(blob.digest)) for blob in named])


def test_a_run_has_the_keys_and_candidates_of_one_process(tmp_path: Path) -> None:
    weights = write_tiny_pipeline(tmp_path / "tiny")
    found = []
    for name, gpus in ("alone", 1), ("together", 2):
        config = fake_config(
            tmp_path / name,
            candidates__model={"path": str(weights), "dtype": "float32"},
            candidates__guidance_scale=3.0,
            execution__gpus=gpus,
            execution__gpus_per_clip=gpus,
        )
        write_videos(tmp_path / name / "videos", 3)
        run_fake(
            config, Scope(last="candidates"), replace(FAKES, animation_model=animation_model, model_folder=model_folder)
        )
        store = Store(tmp_path / name / "store")
        found.append({one.action.key: latents(store, one) for one in store.actions.all("candidates")})
    alone, shared = found
    assert alone.keys() == shared.keys()
    assert alone
    for key, expected in alone.items():
        torch.testing.assert_close(shared[key], expected, rtol=0, atol=1e-4)
    assert not helper_ids()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnimationModel]:
    """With two experts."""
    yield together(write_tiny_pipeline(tmp_path_factory.mktemp("experts"), boundary_ratio=0.875))


def velocity(model: AnimationModel, side: int, t: list[float]) -> torch.Tensor:
    video = np.random.default_rng(0).integers(0, 256, (5, side, side, 3), dtype=np.uint8)
    given = model.encode_conditioning(video, video[0], "a dancer", None)
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(len(t), *model.latent_shape(given), generator=generator)
    streams = {name: one.expand(len(t), *one.shape[1:]) for name, one in given.streams().items()}
    with torch.no_grad():
        return model.velocity(latents, torch.tensor(t), streams)


def helper_ids() -> set[int]:
    """Process ids of the helpers that this process has."""
    children = [int(one) for file in Path("/proc/self/task").glob("*/children") for one in file.read_text().split()]
    return {child for child in children if b"helper_processes" in Path(f"/proc/{child}/cmdline").read_bytes()}


@pytest.mark.parametrize(("side", "tokens"), [(64, 24), (48, 14)], ids=["equal shares", "27 tokens: 14 and 13"])
def test_a_pass_gives_what_one_process_gives(model: AnimationModel, side: int, tokens: int) -> None:
    seen: list[int] = []
    block = model.transformer.get_submodule("transformer.blocks.1")
    hook = block.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].shape[1]))
    mixed = [0.95, 0.2]  # One for each expert.
    with model.sampling():
        found = velocity(model, side, mixed)
    hook.remove()
    assert seen == [tokens]
    torch.testing.assert_close(found, velocity(model, side, mixed), rtol=0, atol=1e-5)
    assert model.how["gpus_per_clip"] == "2"


def test_a_killed_helper_is_a_sentence_and_the_next_pass_has_a_new_one(model: AnimationModel) -> None:
    with model.sampling():
        expected = velocity(model, 64, [0.5])
    (helper,) = helper_ids()
    os.kill(helper, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"helper process .* was killed by signal 9"), model.sampling():
        velocity(model, 64, [0.5])
    assert not helper_ids()
    with model.sampling():
        assert torch.equal(velocity(model, 64, [0.5]), expected)
    assert len(helper_ids() - {helper}) == 1


LEADER = """
import sys
from pathlib import Path
from tests.flows.test_gpus_per_clip import helper_ids, together, velocity

model = together(Path(sys.argv[1]))
with model.sampling():
    velocity(model, 64, [0.5])
    print(*helper_ids(), flush=True)
    sys.stdin.read()
"""


def test_helpers_end_with_a_killed_leader(tmp_path: Path) -> None:
    folder = write_tiny_pipeline(tmp_path)
    command = [sys.executable, "-c", LEADER, str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as leader:
        assert leader.stdout is not None
        helper = Path(f"/proc/{int(leader.stdout.readline())}")
        assert helper.exists()
        leader.kill()
    while helper.exists():  # Until the test's time is over.
        time.sleep(0.1)
