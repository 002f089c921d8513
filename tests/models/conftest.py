from pathlib import Path

import pytest

from ipa_core.models.wan_vace.model import WanVACEModel
from tests.tiny_model import write_tiny_pipeline


@pytest.fixture(scope="session", params=["wan", "demo"])
def pipeline_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp(request.param), geometry=request.param)


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("wan_folder"))


@pytest.fixture(scope="session")
def model(pipeline_folder: Path) -> WanVACEModel:
    """Shared and never changed; tests that put an adapter on a model load their own."""
    return WanVACEModel.load(pipeline_folder, dtype="float32", device="cpu")
