"""LoRAs of others beside the model: candidates by a step-distilled one, an evaluation as the adapter is deployed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from flows.engine.components import Components
from flows.engine.inputs import RunInputs
from flows.engine.plan import why
from flows.engine.summary import RunSummary
from flows.engine.view import View
from flows.engine.worker import Worker
from flows.stages.candidates import Candidates
from flows.stages.evaluation import Evaluated, Evaluation
from ipa_core.config import ConfigError, RunConfig
from ipa_core.config_file import load_config
from storage import ActionResult, Store
from storage.digest import digest_file
from storage.registry import Registry
from tests.fakes import fake_config
from tests.flows.conftest import whole_run
from tests.flows.invented import keys
from tests.tiny_model import write_tiny_pipeline

LAYER = "transformer.blocks.0.attn1.to_q"


def write_lora(path: Path, width: int = 24, value: float = 1.0, layer: str = LAYER) -> Path:
    tensors = {f"{layer}.lora_A.weight": torch.full((2, width), value), f"{layer}.lora_B.weight": torch.ones(width, 2)}
    path.write_bytes(safetensors.torch.save(tensors))
    return path


def added(path: Path, weight: float = 1.0) -> tuple[dict[str, Any], ...]:
    return ({"path": str(path), "weight": weight},)


def told(tmp_path: Path, name: str, **sections: dict[str, Any]) -> dict[str, Any]:
    """Key of every item of an invented run, by stage and the item's name."""
    tree = {"candidates": {}, "evaluation": {}} | sections
    tree["candidates"] = {"model": {"path": "owner/model"}, **tree["candidates"]}
    tree |= {"name": "invented", "clips": {"sources": [str(tmp_path / name / "videos")]}}
    return keys(tmp_path / name, RunConfig.model_validate(tree))


def test_an_added_lora_enters_the_key_by_its_bytes_and_weight(tmp_path: Path) -> None:
    steps = write_lora(tmp_path / "steps.safetensors")

    def candidates(name: str, path: Path, weight: float = 0.5) -> Any:
        return told(tmp_path, name, candidates={"loras": added(path, weight)})["candidates"]

    first = candidates("first", steps)
    assert first != told(tmp_path, "plain")["candidates"]
    moved = steps.rename(tmp_path / "moved.safetensors")
    assert candidates("moved", moved) == first
    assert candidates("weight", moved, 0.6) != first
    assert candidates("bytes", write_lora(moved, value=2.0)) != first


def test_another_sampler_changes_the_evaluation_alone(tmp_path: Path) -> None:
    plain, other = told(tmp_path, "plain"), told(tmp_path, "other", evaluation={"sampler": {"steps": 2}})
    assert {stage for stage in plain if plain[stage] != other[stage]} == {"evaluation"}


def test_guidance_until_a_noise_level_is_in_the_keys_of_what_it_samples(tmp_path: Path) -> None:
    plain, off, on = (
        told(tmp_path, name, candidates=own)
        for name, own in (("plain", {}), ("off", {"guidance_until": 0}), ("on", {"guidance_until": 0.5}))
    )
    evaluated = told(tmp_path, "evaluated", evaluation={"sampler": {"guidance_until": 0.5}})
    assert off == plain
    assert not set(on["candidates"].values()) & set(plain["candidates"].values())
    assert {stage for stage in plain if plain[stage] != evaluated[stage]} == {"evaluation"}


def test_the_evaluation_is_kept_when_the_candidates_change_to_another_sampler(tmp_path: Path) -> None:
    sampler = {"steps": 50, "shift": 16.0, "guidance_scale": 5.0, "loras": []}
    few = {"steps": 4, "shift": 5.0, "guidance_scale": 1.0}
    few["loras"] = added(write_lora(tmp_path / "steps.safetensors"))
    plain, other = told(tmp_path, "plain"), told(tmp_path, "few", candidates=few, evaluation={"sampler": sampler})
    base = [{key for name, key in one["evaluation"].items() if name.endswith(" base")} for one in (plain, other)]
    assert base[0] == base[1]
    assert plain["candidates"] != other["candidates"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_pipeline(tmp_path_factory.mktemp("tiny"))


def tiny_worker(tiny: Path, tmp_path: Path) -> Worker:
    config = fake_config(tmp_path, candidates__model={"path": str(tiny), "dtype": "float32"})
    return Worker(Store(tmp_path / "store"), config, Components())


def weight_of(worker: Worker, *added: tuple[str, float]) -> torch.Tensor:
    """The first layer's effective weight."""
    layer = worker.model(added=added).transformer.get_submodule(LAYER.removeprefix("transformer."))
    if not added:
        return layer.weight.clone()  # type: ignore[union-attr,operator]
    (name,) = layer.active_adapters  # type: ignore[union-attr]
    return layer.base_layer.weight + layer.get_delta_weight(name)  # type: ignore[union-attr,operator]


def test_a_worker_adds_loras_to_the_base_and_takes_them_away_again(tiny: Path, tmp_path: Path) -> None:
    worker = tiny_worker(tiny, tmp_path)
    base = weight_of(worker)
    lora = worker.store.objects.put(write_lora(tmp_path / "steps.safetensors", len(base)).read_bytes())

    # Ones times ones over two ranks, at half the weight.
    torch.testing.assert_close(weight_of(worker, (lora, 0.5)), base + 1.0)
    assert torch.equal(weight_of(worker), base)


def checked(config: RunConfig, components: Components) -> None:
    view = View(config, RunInputs(Store(Path(str(config.execution.store))), config, components))
    Candidates().check(view)
    Evaluation().check(view)


BAD = {
    "is not there": ("no.safetensors", "there is no no.safetensors; name a LoRA folder"),
    "is no LoRA": ("me.png", "me.png holds no LoRA; name a LoRA folder"),
    "of another size": ("small.safetensors", "it is of a model of another size"),
    "of another model": ("other.safetensors", "has 2 names that this model does not have"),
}


@pytest.mark.parametrize("field", ["candidates.loras", "evaluation.sampler.loras"])
@pytest.mark.parametrize(("name", "sentence"), BAD.values(), ids=BAD)
def test_a_lora_that_cannot_be_added_is_one_sentence_before_any_work(
    field: str, name: str, sentence: str, tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "me.png").write_bytes(b"PNG")
    write_lora(tmp_path / "small.safetensors", 3)
    write_lora(tmp_path / "other.safetensors", layer="transformer.single_blocks.0.to_q")
    loras = added(tmp_path / name)
    changes = {"candidates__loras": loras} if field == "candidates.loras" else {"evaluation__sampler": {"loras": loras}}
    config = fake_config(tmp_path, candidates__model={"path": str(tiny), "dtype": "float32"}, **changes)

    with pytest.raises(ConfigError, match=rf"{field}: .*{name}: .*{sentence}"):
        checked(config, Components())


def test_paths_of_loras_start_from_the_configs_folder(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps({
        "name": "x", "clips": {"sources": ["videos"]},
        "candidates": {"model": {"path": "./model"}, "loras": [{"path": "a.safetensors"}]},
        "evaluation": {"sampler": {"loras": [{"path": "/b.safetensors", "weight": 0.5}]}},
    }))  # fmt: skip
    read = load_config(config)
    assert read.candidates.loras[0].path == str(tmp_path / "a.safetensors")
    assert read.evaluated.loras[0].path == "/b.safetensors"


def test_without_a_sampler_of_its_own_the_evaluation_samples_as_the_candidates(tmp_path: Path) -> None:
    loras = added(tmp_path / "steps.safetensors")
    assert fake_config(tmp_path, candidates__loras=loras).evaluated.loras[0].path == loras[0]["path"]
    own = fake_config(tmp_path, candidates__loras=loras, evaluation__sampler={"loras": []})
    assert own.evaluated.loras == ()


def test_previews_cannot_show_added_loras(tmp_path: Path) -> None:
    loras = added(tmp_path / "steps.safetensors")
    with pytest.raises(ValueError, match="preview_every can't show the adapter with the LoRAs"):
        fake_config(tmp_path, candidates__loras=loras, alignment__preview_every=1)


# A run


@dataclass
class Deployed:
    config: RunConfig
    steps: str
    """Digest of the added LoRA."""
    summary: RunSummary
    store: Store


@pytest.fixture(scope="module")
def deployed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A run on the store of another without added LoRAs."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("deployed") / "run"))
    steps = write_lora(folder / "steps.safetensors")
    sampler = {"steps": 2, "guidance_scale": 1.0, "shift": 5.0, "loras": added(steps, 0.5)}
    config = fake_config(folder, candidates__loras=added(steps), evaluation__sampler=sampler)
    return Deployed(config, digest_file(steps), whole_run(config), Store(folder / "store"))


def made(deployed: Deployed, stage: str) -> list[ActionResult]:
    """The results with added LoRAs, and those of the store's other run."""
    actions = deployed.store.actions
    found = actions.lookup(stage, actions.keys(stage)).values()
    return sorted((one for one in found if "clip" in one.action.inputs), key=lambda one: "loras" in one.action.config)


def test_candidates_by_an_added_lora_are_others(deployed: Deployed) -> None:
    by_clip: dict[str, set[str]] = {}
    for one in made(deployed, "candidates"):
        by_clip.setdefault(one.action.inputs["clip"], set()).add(one.outputs["0.mp4"].digest)
    assert {len(videos) for videos in by_clip.values()} == {2}


def test_the_reference_errors_are_the_frozen_models(deployed: Deployed) -> None:
    actions = deployed.store.actions
    found = actions.lookup("references", actions.keys("references")).values()
    assert {name for one in found for name in one.action.inputs} == {"model", "latents", "conditioning", "pose"}


def test_both_models_get_the_evaluations_sampler(deployed: Deployed) -> None:
    found = [one.action for one in made(deployed, "evaluation") if "loras" in one.action.config]
    assert {"lora" in action.inputs for action in found} == {True, False}
    for action in found:
        assert (action.config["steps"], action.config["shift"], action.config["loras"]) == (2, 5.0, [0.5])
        assert action.inputs["added LoRA 1"] == deployed.steps


def test_the_drift_is_not_measured_with_added_loras(deployed: Deployed) -> None:
    last = made(deployed, "evaluation")[-1]
    assert {row.drift for row in Evaluated.model_validate(last.record).results} == {None}


def test_a_plan_names_the_sampler_that_changed(deployed: Deployed) -> None:
    before, now = made(deployed, "evaluation")[0], made(deployed, "evaluation")[-1].action
    before = replace(before, action=replace(now, config=before.action.config | {"clip_id": now.config["clip_id"]}))
    assert why(Evaluation(), now, before, deployed.config) == (
        "evaluation.sampler.loras: None -> [0.5], evaluation.sampler.shift: 1.0 -> 5.0, "
        "evaluation.sampler.steps: 1 -> 2"
    )


TOLD = "in 2 steps of euler (shift 5, guidance 1), with steps.safetensors at 0.5"


def test_the_report_says_how_the_evaluation_sampled(deployed: Deployed) -> None:
    report = Path(deployed.summary.outputs["report"]).read_text()
    assert f"the evaluation samples both models {TOLD}; the drift from the base is then not measured" in report


def test_the_model_card_says_it(deployed: Deployed) -> None:
    assert f"Both were sampled {TOLD}." in (Path(deployed.summary.outputs["lora"]) / "README.md").read_text()


def test_the_promotion_says_it(deployed: Deployed) -> None:
    assert Registry(deployed.store.address).state().decisions[-1].reason.endswith(f"; sampled {TOLD}")


def test_report_and_lineage_call_the_candidates_off_policy(deployed: Deployed) -> None:
    sentence = "the candidates come from the model with steps.safetensors at 1 (candidates.loras), not from the model"
    assert sentence in Path(deployed.summary.outputs["report"]).read_text()
    (entry,) = Registry(deployed.store.address).state().adapters.values()
    assert entry.lineage.loras == {deployed.steps: 1.0}
