from collections.abc import Iterator
from pathlib import Path

import pytest

from ipa_core.models.wan_vace.model import WanVACEModel
from tests.tiny_model import write_tiny_pipeline


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def shared_model(tiny_folder: Path) -> WanVACEModel:
    return WanVACEModel.load(tiny_folder, dtype="float32", device="cpu", text_encoder=False)


@pytest.fixture
def model(shared_model: WanVACEModel) -> Iterator[WanVACEModel]:
    """Without an adapter, whatever the test before has put on."""
    yield shared_model
    shared_model.transformer.unload_lora()
