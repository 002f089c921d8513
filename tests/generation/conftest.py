from pathlib import Path

import numpy as np
import pytest

from ipa_core.models.conditioning import Conditioning
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.tiny_model import FRAMES, HEIGHT, WIDTH, write_tiny_pipeline


@pytest.fixture(scope="session", params=["wan", "demo"])
def pipeline_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp(request.param), geometry=request.param)


@pytest.fixture(scope="session")
def model(pipeline_folder: Path) -> WanVACEModel:
    return WanVACEModel.load(pipeline_folder, dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def control_video() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def reference() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def conditioning(model: WanVACEModel, control_video: np.ndarray, reference: np.ndarray) -> Conditioning:
    return model.encode_conditioning(control_video, reference, "a dancer", "blurred hands")
