"""A store that commit a4a7d59 wrote is found complete, and its runs are read.

`store_a4a7d59.tar.gz` holds the videos, three runs over them and the registry; of the objects only the decisions, which
say what the next stages' items are. Run 1 has default settings, run 2 many others and a champion that generates, run 3
trains by SFT after somebody rejected a candidate of run 1.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from flows.engine.inputs import RunInputs
from flows.engine.run_folder import runs
from flows.engine.status import last_runs
from flows.engine.view import View
from flows.engine.walk import Scope, nothing_to_compute
from flows.outcomes.adapters import model_rows
from flows.outcomes.yields import run_yields
from flows.stages import STAGE_NAMES, STAGES
from ipa_core.config import RunConfig
from storage import Store
from storage.registry import Registry
from tests.fakes import FAKES, fake_config

ARCHIVE = Path(__file__).with_name("store_a4a7d59.tar.gz")
ITEMS = ((8, 8, 2, 4, 1, 1, 2, 1, 13), (8, 8, 2, 4, 1, 1, 4, 1, 8), (8, 8, 2, 4, 1, 1, 0, 1, 20))
"""Of each run, by stage."""
CHANGES: tuple[dict[str, object], ...] = (
    {},
    {
        "rounds__on_policy": True,
        "alignment__latents": "driving",
        "alignment__timesteps": "shifted",
        "selection__min_pose_distance": 0.0001,
        "selection__per_clip": 2,
        "evaluation__max_clips": 2,
    },
    {"alignment__method": "sft", "alignment__latents": "reencoded", "selection__pick": "worst"},
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder, with an empty file in the place of each object."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    objects = tmp_path / "store" / "objects"
    for path in (tmp_path / "store" / "actions").rglob("*.json"):
        for digest, _ in json.loads(path.read_text())["result"]["outputs"].values():
            place = objects / digest[:2] / digest[2:]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    return tmp_path


def config(old: Path, number: int) -> RunConfig:
    return fake_config(old, scores__model=str(old / "coefficients.json"), **CHANGES[number])


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_every_item_of_a_run_is_found(old: Path, number: int) -> None:
    if number == 0:
        shutil.rmtree(old / "store" / "reviews")  # They came after it.
    settings = config(old, number)
    view = View(settings, RunInputs(Store(old / "store"), settings, FAKES))
    assert nothing_to_compute(view, STAGES, Scope())


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_a_run_has_the_items_that_it_had(old: Path, number: int) -> None:
    store = Store(old / "store")
    folder = list(runs(store))[::-1][number]
    rows = folder.items()
    assert tuple(sum(one == stage for one, _ in rows) for stage in STAGE_NAMES) == ITEMS[number]
    committed = {key for stage in store.actions.stages() for key in store.actions.keys(stage)}
    assert set(rows.values()) <= committed


def test_its_runs_and_their_ends_are_told(old: Path) -> None:
    found = last_runs(Store(old / "store"), 10)
    assert [(state.config, state.state, state.error) for state in found] == [("fake", "completed", None)] * 3
    assert [sum(row.items for row in state.stages) for state in found] == [sum(one) for one in ITEMS[::-1]]


def test_its_yields_are_told(old: Path) -> None:
    assert [(one.config, one.report.candidates, one.report.kept) for one in run_yields(Store(old / "store"))] == [
        ("fake", 4, 2),
        ("fake", 4, 4),
        ("fake", 4, 2),
    ]


def test_its_adapters_and_their_champion_are_told(old: Path) -> None:
    rows = model_rows(Registry(old / "store").state())
    assert len(rows) == 3
    assert sum(row.role == "champion" for row in rows) == 1
