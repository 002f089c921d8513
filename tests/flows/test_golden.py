"""What each stage gives for fixed inputs. When this fails the stage's output has changed: raise its VERSION, or every
store would go on using results that the code no longer makes, and write the golden file anew with

    IPA_WRITE_GOLDEN=1 pytest tests/flows/test_golden.py

Numbers are rounded, so that another processor gives the same file. But bytes may differ on another, and seeds follow
from those of videos, the fake model's pictures from those of the LoRA: where they are not the golden file's, only the
form is compared.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.engine.walk import Scope
from flows.stages import STAGE_NAMES, STAGES
from flows.stages.finetune import LORA
from storage import ActionResult
from storage.digest import digest_config
from tests.fakes import fake_config
from tests.flows.conftest import Done, run_fake

GOLDEN = Path(__file__).with_name("golden.json")
VERSIONS = {stage.name: stage.version for stage in STAGES}


@pytest.fixture(scope="module")
def done(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run of version 1 of the score, whose results stores have."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("version 1") / "run"))
    return run_fake(fake_config(folder, scores__version=1))


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_output_changes_only_with_the_version(done: Done, stage: str) -> None:
    check(done, stage, stage)


@pytest.mark.parametrize("version", [2, 3])
def test_scores_of_later_versions_change_only_with_the_version(finished: Path, version: int) -> None:
    config = fake_config(finished, scores__version=version)
    check(run_fake(config, Scope(last="scores")), "scores", f"scores of version {version}")


def check(done: Done, stage: str, name: str) -> None:
    found = {"version": VERSIONS[stage], "bytes": upstream(done, stage), "results": fingerprints(done, stage)}
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("IPA_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(golden | {name: found}, indent=1, sort_keys=True) + "\n")
        return
    expected = golden[name]
    if expected["bytes"] != found["bytes"]:
        expected, found = (form(each) | {"version": each["version"]} for each in (expected, found))
    assert found == expected


def upstream(done: Done, stage: str) -> str:
    """What the encoder of this machine made of the test's pictures, twice: as sources and as clips; for the training
    also the latents, whose digests seed its draws; for the evaluation what this machine made of the LoRA."""
    outputs = [result.outputs["000.mp4"].digest for _, result in done.results.done("clips")]
    sources = [item.action.inputs["video"] for item, _ in done.results.done("clips")]
    made = {"sources": sorted(sources), "clips": sorted(outputs)}
    made["lora"] = [done.output("finetune", LORA)] if stage == "evaluation" else []
    if stage in ("references", "finetune"):
        made["latents"] = sorted(item.action.inputs["latents"] for item, _ in done.results.done("references"))
    return digest_config(made)


def form(value: Any) -> Any:
    """Names and types without the values; of a list its first entry."""
    if isinstance(value, dict):
        return {name: form(part) for name, part in value.items()}
    if isinstance(value, list):
        return [form(part) for part in value[:1]]
    # A score or a reason may be absent for one video and there for another.
    return None if isinstance(value, str | float | int | None) else type(value).__name__


def fingerprints(done: Done, stage: str) -> list[Any]:
    """Record and output names of each item, in the order of their content."""
    found = [fingerprint(done, result) for _, result in done.results.done(stage)]
    return sorted(found, key=lambda entry: json.dumps(entry, sort_keys=True))


def fingerprint(done: Done, result: ActionResult) -> dict[str, Any]:
    about = {"record": rounded(dict(result.record)), "outputs": sorted(result.outputs)}
    if LORA in result.outputs:
        curve = json.loads(done.store.objects.get(result.outputs["training.json"].digest))
        about["losses"] = [round(step["loss"], 3) for step in curve]
    return about


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 2) if isinstance(value, float) else value
