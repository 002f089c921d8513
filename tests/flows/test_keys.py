"""The keys of all stages, pinned: whoever changes one makes every store compute that stage, and all after it, again.

An option that is added later must not change any of these (see flows.engine.stage: fields left out at their default).
They may only change together with the VERSION of their stage.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipa_core.config import RunConfig
from storage.digest import FileDigests
from tests.flows.invented import invented, keys

PINNED = json.loads(Path(__file__).with_name("keys.json").read_text())
MODEL = {"path": "Wan-AI/Wan2.1-VACE-1.3B-diffusers"}
OTHER = {
    "clips": {
        "prompt": "a dancer",
        "frames": 17,
        "fps": 8,
        "width": 128,
        "height": 96,
        "max_windows": 2,
        "crop": "center",
        "reference": "first",
        "held_out": 0.5,
    },
    "poses": {"backend": "dwpose", "model": "weights", "person": "largest", "min_hand_confidence": 0.3},
    "candidates": {
        "model": MODEL | {"dtype": "float32"},
        "per_clip": 2,
        "seed": 7,
        "drawing": {"hand_detail": "palm", "face": False},
        "steps": 20,
        "scheduler": "euler",
        "shift": 5.0,
        "guidance_scale": 1.0,
        "negative_prompt": "blurred",
    },
    "scores": {"fingers": False, "reward": "dwpose", "reward_model": "weights", "good_hand": 0.6},
    "selection": {"pick": "worst", "rank_by": "confidence", "per_motion": 3, "min_pose_distance": 0.1, "share": 0.5},
    "shards": {"samples_per_shard": 2},
    "alignment": {
        "beta": 200.0,
        "timesteps": "shifted",
        "timestep_shift": 5.0,
        "mask_time": "mean",
        "latents": "driving",
        "vace_blocks": True,
        "steps": 20,
        "batch_size": 4,
        "accumulation": 2,
        "gradient_checkpointing": True,
        "seed": 3,
    },
    "evaluation": {"per_clip": 3, "max_clips": 2, "bootstrap": 100, "fvd": {"path": "i3d.pt", "sha256": "AB" * 32}},
    "rounds": {"on_policy": True},
    "execution": {"workers": 1, "gpus": 4, "batch_minutes": 1.0, "retention": "kept"},
}


def run_config(folder: Path, **sections: dict[str, object]) -> RunConfig:
    tree = {"clips": {}, "candidates": {"model": MODEL}, "alignment": {"steps": 4}} | sections
    tree["clips"] = tree["clips"] | {"sources": [str(folder / "videos")]}
    return RunConfig.model_validate(tree | {"name": "invented"})


def check(found: dict[str, object], pinned: str) -> None:
    assert found == PINNED[pinned]


def test_keys_of_the_default_settings(tmp_path: Path) -> None:
    check(keys(tmp_path, run_config(tmp_path)), "default")


def test_keys_of_other_settings_with_a_generator(tmp_path: Path) -> None:
    check(keys(tmp_path, run_config(tmp_path, **OTHER), invented("champion")), "other")


@pytest.mark.parametrize("method", ["sft"])
def test_keys_of_a_training_without_a_reference(method: str, tmp_path: Path) -> None:
    found = keys(tmp_path, run_config(tmp_path, alignment={"method": method, "latents": "reencoded"}))
    check({"references": found["references"], "finetune": found["finetune"]}, method)


@pytest.mark.parametrize("version", [2, 3])
def test_keys_of_later_versions_of_the_score(tmp_path: Path, version: int) -> None:
    found = keys(tmp_path, run_config(tmp_path, scores={"version": version}))
    check({stage: found[stage] for stage in ("scores", "evaluation")}, f"score version {version}")
    assert found["candidates"] == PINNED["default"]["candidates"]


def test_a_store_s_version_of_the_score_costs_no_item_when_somebody_names_it(tmp_path: Path) -> None:
    check(keys(tmp_path, run_config(tmp_path, scores={"version": 1})), "default")


def test_a_decision_by_hand_is_in_the_key_of_the_selection_alone(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    group = next(iter(PINNED["default"]["candidates"].values()))
    found = keys(tmp_path, config, rejected=[invented(group, "0.mp4")])
    check({"selection": found["selection"]}, "decided")
    assert found["scores"] == PINNED["default"]["scores"]


def test_showing_a_training_costs_no_item(tmp_path: Path) -> None:
    shown = {"alignment": {"steps": 4, "preview_every": 2}, "execution": {"trackers": ["wandb", "mlflow"]}}
    check(keys(tmp_path, run_config(tmp_path, **shown)), "default")


def test_the_folder_of_the_demos_model_is_as_it_was() -> None:
    """All of its files are in the key of what it generates, its README too: an edit there recomputes every demo
    store."""
    folder = Path(__file__).parents[2] / "models" / "demo"
    assert FileDigests(None).tree(folder) == "775fe17c6a61ac90fbb6319b4b057885fa4e021afb9fea28dbdedfab8ca50632"
