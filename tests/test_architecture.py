"""The import rules of the house. Read from the source, so that a lazy import inside a function counts as well."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("clips", "pose", "generation", "scoring", "alignment", "evaluation")
TORCH_ROOMS = ("models", "generation", "alignment", "evaluation", "people", "pretraining")
TORCH_FILES = ("pose/ultralytics.py", "pose/dwpose.py", "scoring/fingers.py", "scoring/finger_training.py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def offenders(folder: str, *forbidden: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(folder)
        for name in imports(path)
        if any(name == word or name.startswith(f"{word}.") for word in forbidden)
    ]


def test_the_science_knows_no_orchestration_and_no_storage() -> None:
    assert offenders("ipa_core", "prefect", "storage", "flows") == []


def test_storage_knows_no_science_but_the_records() -> None:
    found = offenders("storage", "prefect", "flows", "torch", "diffusers", "ipa_core")
    assert [line for line in found if not line.endswith("imports ipa_core.records")] == []


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_the_science_do_not_import_each_other(room: str) -> None:
    others = [f"ipa_core.{other}" for other in ROOMS if other != room]
    # The protocol of the extractors is shared ground, their backends are not.
    shared = ("imports ipa_core.pose", "imports ipa_core.pose.extractor")
    assert [line for line in offenders(f"ipa_core/{room}", *others) if not line.endswith(shared)] == []


def test_torch_stays_in_the_rooms_that_need_it() -> None:
    found = offenders("ipa_core", "torch", "diffusers", "peft", "transformers")
    allowed = (*(f"ipa_core/{room}/" for room in TORCH_ROOMS), *(f"ipa_core/{file}" for file in TORCH_FILES))
    assert [line for line in found if not line.startswith(allowed)] == []


def test_only_these_modules_of_flows_import_prefect() -> None:
    found = {line.split()[0] for line in offenders("flows", "prefect")}
    assert found == {
        "flows/orchestration/clusters.py",
        "flows/orchestration/monitoring.py",
        "flows/orchestration/server.py",
        "flows/orchestration/serving.py",
        "flows/orchestration/tasks.py",
        "flows/retrain.py",
    }


@pytest.mark.parametrize("code", ["import storage", "import flows.cli", "import ipa_core.config, ipa_core.records"])
def test_light_modules_load_neither_torch_nor_prefect(code: str) -> None:
    heavy = ("torch", "prefect", "fastapi", "mediapipe", "diffusers")
    check = f"{code}; import sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_nothing_is_pickled() -> None:
    everything = [line for folder in ("ipa_core", "storage", "flows") for line in offenders(folder, "pickle")]
    assert everything == []
