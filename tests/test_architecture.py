"""The import rules of the house. Read from the source, so that a lazy import inside a function counts as well."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("clips", "pose", "generation", "scoring", "alignment", "evaluation")
TORCH_ROOMS = ("models", "generation", "alignment", "evaluation", "people", "pretraining")
TORCH_FILES = (
    *("pose/ultralytics.py", "pose/dwpose.py"),
    *("scoring/fingers.py", "scoring/finger_pairs.py", "scoring/finger_training.py"),
)


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


def test_prefect_is_known_to_the_flow_and_its_orchestration_alone() -> None:
    found = {line.split()[0] for line in offenders("flows", "prefect")}
    assert {path for path in found if not path.startswith("flows/orchestration/")} == {"flows/retrain.py"}


RANKS = ("engine", "training", "orchestration", "stages", "outcomes", "experiments", "review", "web", "retrain", "cli")
"""Rooms of flows; each imports those before it only. The stages know no orchestration, the outcomes nothing of it."""
NOT_ABOVE = {"orchestration": ("training",), "stages": ("orchestration",), "outcomes": ("orchestration",),
             "experiments": ("orchestration",), "review": ("orchestration", "experiments", "outcomes"),
             "web": ("orchestration", "experiments")}  # fmt: skip


@pytest.mark.parametrize("room", RANKS)
def test_rooms_of_flows_import_downwards(room: str) -> None:
    above = RANKS[RANKS.index(room) + 1 :] + NOT_ABOVE.get(room, ())
    paths = modules(f"flows/{room}") if room != "retrain" else [ROOT / "flows" / "retrain.py"]
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imports(path)
        if name.startswith("flows.") and name.split(".")[1] in above
    ]
    assert found == []


def test_reporting_people_and_pretraining_are_imported_by_no_other_room_of_the_science() -> None:
    for room in ("reporting", "people", "pretraining"):
        found = offenders("ipa_core", f"ipa_core.{room}")
        allowed = ("ipa_core/reporting/", "ipa_core/people/", "ipa_core/pretraining/")
        assert [line for line in found if not line.startswith(allowed)] == []


def test_nobody_imports_tests() -> None:
    assert [line for folder in ("flows", "ipa_core", "storage") for line in offenders(folder, "tests")] == []


def test_imports_go_in_no_circle() -> None:
    """Of what a module loads when it is imported itself."""
    graph = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): set(loaded(path))
        for folder in ("flows", "ipa_core", "storage")
        for path in modules(folder)
    }
    order = graphlib.TopologicalSorter({name: needs & graph.keys() - {name} for name, needs in graph.items()})
    order.prepare()  # Raises CycleError with the circle.


def loaded(path: Path) -> Iterator[str]:
    """Modules that the top level of a file imports; `from package import module` names the module."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            there = [name for name in inner if (ROOT / name.replace(".", "/")).with_suffix(".py").exists()]
            yield from there or [node.module]


@pytest.mark.parametrize("code", ["import storage", "import flows.cli", "import ipa_core.config, ipa_core.records"])
def test_light_modules_load_neither_torch_nor_prefect(code: str) -> None:
    heavy = ("torch", "prefect", "fastapi", "mediapipe", "diffusers")
    check = f"{code}; import sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_nothing_is_pickled() -> None:
    everything = [line for folder in ("ipa_core", "storage", "flows") for line in offenders(folder, "pickle")]
    assert everything == []
