"""Which model a folder or a config means."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipa_core.config import ModelConfig
from ipa_core.config_file import load_config
from ipa_core.models import KINDS, MissingModel, UnknownModel, kind_of, known_network, resolve_model
from ipa_core.models.wan_vace import WAN_VACE
from ipa_core.models.wan_vace.card import model_card
from ipa_core.models.wan_vace.cost import NETWORKS
from ipa_core.models.wan_vace.model import WanVACEModel
from tests.test_architecture import ROOMS, offenders

ROOT = Path(__file__).resolve().parents[2]


def with_index(source: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a pipeline folder whose index says something else."""
    shutil.copytree(source, folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | changes))
    return folder


def test_a_folder_is_loaded_by_the_class_that_it_names(wan_folder: Path) -> None:
    kind = kind_of(wan_folder)

    assert kind is WAN_VACE
    assert isinstance(kind.load(wan_folder, dtype="float32", device="cpu", text_encoder=False), WanVACEModel)


def test_the_demo_model_is_known() -> None:
    assert kind_of(ROOT / "models" / "demo") is WAN_VACE


both = pytest.mark.parametrize("find", [kind_of, lambda folder: resolve_model(ModelConfig(path=str(folder)))])


@both
def test_an_unknown_class_is_refused_with_the_known_ones(wan_folder: Path, tmp_path: Path, find: Any) -> None:
    folder = with_index(wan_folder, tmp_path / "model", _class_name="LTXPipeline")

    with pytest.raises(UnknownModel, match=r"class LTXPipeline, .* known class \(WanVACEPipeline.*\)$"):
        find(folder)


@both
def test_a_half_written_index_is_refused(wan_folder: Path, tmp_path: Path, find: Any) -> None:
    folder = with_index(wan_folder, tmp_path / "model")
    index = folder / "model_index.json"
    index.write_text(index.read_text()[:40])

    with pytest.raises(UnknownModel, match=r"model_index\.json is no whole JSON file .* download the model again$"):
        find(folder)


SECOND = ["diffusers", "WanVACETransformer3DModel"]


@both
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transformer_2": SECOND}, "names transformer and transformer_2, with boundary_ratio None"),
        ({"boundary_ratio": 0.875}, "names transformer, with boundary_ratio 0.875"),
        ({"transformer_2": SECOND, "transformer": [None, None]}, "names transformer_2, with boundary_ratio None"),
        ({"transformer": [None, None]}, "names no transformer, with boundary_ratio None"),
    ],
    ids=["no boundary", "no second", "no first", "none"],
)
def test_experts_that_are_not_two_are_refused(
    wan_folder: Path, tmp_path: Path, find: Any, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnknownModel, match=said):
        find(with_index(wan_folder, tmp_path / "model", **changes))


def two_experts(source: Path, folder: Path) -> Path:
    with_index(source, folder, transformer_2=SECOND, boundary_ratio=0.875)
    shutil.copytree(folder / "transformer", folder / "transformer_2")
    return folder


def change_config(part: Path, **changes: Any) -> None:
    config = json.loads((part / "config.json").read_text())
    (part / "config.json").write_text(json.dumps(config | changes))


def test_two_experts_are_taken(wan_folder: Path, tmp_path: Path) -> None:
    assert kind_of(two_experts(wan_folder, tmp_path / "model")) is WAN_VACE


@pytest.mark.parametrize("ratio", [875, 0, "0.875"])
def test_a_boundary_that_is_no_share_is_refused(wan_folder: Path, tmp_path: Path, ratio: Any) -> None:
    folder = two_experts(wan_folder, tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"boundary_ratio": ratio}))

    with pytest.raises(UnknownModel, match=rf"boundary_ratio must be a number between 0 and 1 .*, got {ratio!r}"):
        kind_of(folder)


def test_experts_of_different_sizes_are_refused(wan_folder: Path, tmp_path: Path) -> None:
    folder = two_experts(wan_folder, tmp_path / "model")
    change_config(folder / "transformer_2", num_layers=40)

    with pytest.raises(UnknownModel, match="they are no experts of one model"):
        kind_of(folder)


@pytest.mark.parametrize("part", ["transformer", "transformer_2"])
def test_a_transformer_of_another_class_is_refused(wan_folder: Path, tmp_path: Path, part: str) -> None:
    folder = two_experts(wan_folder, tmp_path / "model")
    change_config(folder / part, _class_name="WanTransformer3DModel")

    with pytest.raises(UnknownModel, match=rf"{part}/config\.json is of the class WanTransformer3DModel"):
        kind_of(folder)


def test_a_missing_expert_is_named(wan_folder: Path, tmp_path: Path) -> None:
    folder = two_experts(wan_folder, tmp_path / "model")
    shutil.rmtree(folder / "transformer_2")

    with pytest.raises(MissingModel, match="not complete: transformer_2 is missing"):
        resolve_model(ModelConfig(path=str(folder)))


def test_no_two_kinds_have_the_same_class() -> None:
    assert len({kind.pipeline for kind in KINDS}) == len(KINDS)


def test_a_known_network_is_found_by_its_hub_id() -> None:
    config = load_config(ROOT / "configs" / "wan-vace-14b.yaml")
    found = known_network(config)
    assert found is not None
    kind, network = found

    assert kind is WAN_VACE
    assert network is NETWORKS["Wan2.1-VACE-14B-diffusers"]
    assert known_network(load_config(ROOT / "configs" / "demo.yaml")) is None


def test_the_kind_writes_its_models_card() -> None:
    config = load_config(ROOT / "configs" / "demo.yaml").alignment
    assert WAN_VACE.card(config, "base", 3) == model_card(config, "base", 3)


def test_kinds_load_no_torch() -> None:
    check = (
        "import sys, ipa_core.models as m; m.KINDS, m.AnimationModel, m.resolve_model; "
        "print([x for x in ('torch', 'diffusers', 'peft', 'safetensors') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_models_know_no_other_room_and_no_other_room_knows_a_model() -> None:
    assert offenders("ipa_core/models", *(f"ipa_core.{room}" for room in ROOMS)) == []
    assert [line for room in ROOMS for line in offenders(f"ipa_core/{room}", "ipa_core.models.wan_vace")] == []
