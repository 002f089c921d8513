import json
import re
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest

from ipa_core.config import ModelConfig
from ipa_core.models import MissingModel, UnknownModel, resolve_model

HUB_ID = "Wan-AI/Wan2.1-VACE-1.3B-diffusers"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(wan_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(wan_folder, tmp_path / "model"))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / f"models--{HUB_ID.replace('/', '--')}"


def test_a_pipeline_folder_is_taken(folder: Path) -> None:
    assert resolve_model(ModelConfig(path=str(folder))) == folder


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match=r"it has no model_index\.json"):
        resolve_model(ModelConfig(path=str(tmp_path)))


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match=r"none' is not there; set candidates\.model\.path to a folder"):
        resolve_model(ModelConfig(path=str(tmp_path / "none")))


@pytest.mark.parametrize(
    "path", ["./model", "../model", "/model", "~/model", "model", "a/b/c", "parent/model", "", "/"]
)
def test_a_path_is_never_taken_for_a_hub_id(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parent").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingModel) as error:
        resolve_model(ModelConfig(path=path))
    assert "hf download" not in str(error.value)


def test_a_file_is_no_model_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(MissingModel, match=r"model\.safetensors' is a file; set candidates\.model\.path to a folder"):
        resolve_model(ModelConfig(path=str(tmp_path / "model.safetensors")))


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()

    with pytest.raises(MissingModel, match=r"transformer/\*\.safetensors is missing"):
        resolve_model(ModelConfig(path=str(folder)))


def test_a_missing_part_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")

    with pytest.raises(MissingModel, match="tokenizer is missing"):
        resolve_model(ModelConfig(path=str(folder)))


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("transformer", "transformer/config.json"),
        ("scheduler", "scheduler/scheduler_config.json"),
        ("tokenizer", "tokenizer/*.json"),
    ],
)
def test_a_part_without_its_small_files_is_named(folder: Path, part: str, named: str) -> None:
    for path in (folder / part).glob("*.json"):
        path.unlink()

    with pytest.raises(MissingModel, match=f"not complete: {re.escape(named)} is missing"):
        resolve_model(ModelConfig(path=str(folder)))


def test_a_missing_shard_is_named(folder: Path) -> None:
    part = folder / "transformer"
    (part / "diffusion_pytorch_model.safetensors").rename(part / "model-1.safetensors")
    shards = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(shards))

    with pytest.raises(MissingModel, match=r": transformer/model-2\.safetensors is missing"):
        resolve_model(ModelConfig(path=str(folder)))


def test_an_index_that_is_nested_too_deep_is_refused(folder: Path) -> None:
    (folder / "model_index.json").write_text("[" * 100_000)

    with pytest.raises(UnknownModel, match=r"model_index\.json is no whole JSON file"):
        resolve_model(ModelConfig(path=str(folder)))


@pytest.mark.parametrize(
    "content", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "/b"}}']
)
def test_a_shard_list_of_another_form_is_refused(folder: Path, content: str) -> None:
    (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(content)

    with pytest.raises(UnknownModel, match=r"index\.json is no list of weights; download the model again$"):
        resolve_model(ModelConfig(path=str(folder)))


@pytest.mark.parametrize("left", [0, 5, 1000], ids=["nothing", "no header", "half"])
def test_weights_that_end_too_early_are_named(folder: Path, left: int) -> None:
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:left])

    with pytest.raises(MissingModel, match=r"transformer/diffusion_pytorch_model\.safetensors ends too early"):
        resolve_model(ModelConfig(path=str(folder)))


def test_a_hub_model_is_found_in_the_cache(folder: Path, hub_cache: Path) -> None:
    snapshot = hub_cache / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)

    assert resolve_model(ModelConfig(path=HUB_ID, revision=COMMIT)) == snapshot


def test_a_download_that_was_broken_off_says_how_to_go_on(folder: Path, hub_cache: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    shutil.copytree(folder, hub_cache / "snapshots" / COMMIT)

    with pytest.raises(MissingModel, match=r"vae/\*\.safetensors is missing; get it with `hf download"):
        resolve_model(ModelConfig(path=HUB_ID, revision=COMMIT))


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize(
    ("revision", "command"),
    [(None, f"hf download {HUB_ID}`"), (COMMIT, f"hf download {HUB_ID} --revision {COMMIT}`")],
    ids=["newest", "pinned"],
)
def test_a_missing_hub_model_says_how_to_get_it(revision: str | None, command: str) -> None:
    with pytest.raises(MissingModel) as error:
        resolve_model(ModelConfig(path=HUB_ID, revision=revision))

    assert command in str(error.value) and "(about 19 GB)" in str(error.value)
